from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tables import TAGS, TOKENIZER, tagged_rows, write_split, write_tagged

from hf_distill.tasks import TASKS, Task


def build(**fields: Any) -> Task:
    return TASKS.build({"name": "token_classification", "tokenizer": TOKENIZER, **fields}, path="task")


@pytest.fixture
def by_folder(tmp_path: Path) -> str:
    for seed, language in enumerate(("en", "de", "sw")):
        folder = write_tagged(tmp_path / language, splits=("train", "validation", "test"), count=4 + seed)
        write_split(folder, "test", tagged_rows(3 + seed, seed=10 + seed))
    return str(tmp_path / "{language}")


def test_languages_with_tables_of_their_own_are_not_mixed(by_folder: str, tmp_path: Path) -> None:
    task = build(data={"path": by_folder}, language="en", evaluation_languages=["en", "de", "sw"])
    data = task.prepare(seed=0, cache_dir=tmp_path)
    assert (data.description["train_rows"], data.description["validation_rows"]) == (4, 4)
    assert data.description["further_rows"] == {"en": 3, "de": 4, "sw": 5}
    assert {held_out.group for held_out in data.further.values()} == {"languages"}


@pytest.mark.parametrize("mark", ["{}", "{}-1234-1"])
def test_languages_of_one_table_are_not_mixed(mark: str, tmp_path: Path) -> None:
    """A column of languages, or of ids that begin with one, as in TyDi QA; `english` is no `en`."""
    rows = [
        row
        for language, count in (("en", 3), ("english", 2), ("sw", 4))
        for row in tagged_rows(count, lang=mark.format(language))
    ]
    folder = write_tagged(tmp_path / "data")
    for split in ("train", "validation", "test"):
        write_split(folder, split, rows)
    fields = {"data": {"path": str(folder)}, "language_column": "lang", "language": "en"}
    data = build(**fields, evaluation_languages=["sw"]).prepare(seed=0, cache_dir=tmp_path)
    assert (data.description["train_rows"], data.description["further_rows"]) == (3, {"sw": 4})
    whole = build(data={"path": str(folder)}).prepare(seed=0, cache_dir=tmp_path)
    assert whole.description["train_rows"] == 9
    with pytest.raises(ValueError, match=r"test.jsonl has no row in the language 'fi'; it has en, english, sw"):
        build(**fields, evaluation_languages=["fi"]).prepare(seed=0, cache_dir=tmp_path)


def test_tags_in_another_order_are_not_taken_by_their_numbers(by_folder: str, tmp_path: Path) -> None:
    """The German table numbers its tags the other way round."""
    german = tmp_path / "de"
    (german / "labels.json").write_text('["' + '", "'.join(reversed(TAGS)) + '"]')
    turned = [{**row, "ner_tags": [3 - tag for tag in row["ner_tags"]]} for row in tagged_rows(4, seed=11)]
    write_split(german, "test", turned)
    straight = build(data={"path": by_folder}, language="en", evaluation_languages=["de"])
    table = straight.prepare(seed=0, cache_dir=tmp_path).further["de"].examples
    expected = [tag for row in tagged_rows(4, seed=11) for tag in row["ner_tags"]]
    labels = table.columns["labels"].values  # type: ignore[attr-defined]
    assert labels[labels >= 0].tolist() == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": {"path": "x/{language}"}}, "say which language to train on"),
        ({"data": {"path": "x"}, "language": "en"}, "nothing says which language a row is of"),
        ({"data": {"path": "x"}, "evaluation_languages": ["en"]}, "nothing says which language a row is of"),
        ({"data": {"path": "x/{language}"}, "language": "en", "language_column": "id"}, "leave one of them out"),
        ({"data": {"path": "x/{language}"}, "language": "en", "evaluation_languages": ["a", "a"]}, "stands twice"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_a_language_that_is_missing_is_refused(by_folder: str, tmp_path: Path) -> None:
    task = build(data={"path": by_folder}, language="en", evaluation_languages=["fi"])
    with pytest.raises(ValueError, match="fi' is no folder"):
        task.prepare(seed=0, cache_dir=tmp_path)
