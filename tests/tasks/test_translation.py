"""Texts in two languages, from either layout; what is missing is named; BLEU is sacreBLEU's on the raw references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from tables import pair_rows, write_pairs, write_split

from hf_distill.tasks import TASKS, Translation

BYTES = {"train": {"kind": "bpe", "vocab_size": 320}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data")


def build(folder: Path, **fields: Any) -> Translation:
    spec = {"name": "translation", "source_lang": "en", "target_lang": "de", "data": {"path": str(folder)}}
    task = TASKS.build({**spec, "tokenizer": BYTES, **fields}, path="task")
    assert isinstance(task, Translation)
    return task


def columns(task: Translation) -> tuple[list[str], list[str]]:
    found = task.read(task.source(), "train").columns
    return found["source"], found["target"]


def test_the_languages_keep_their_places(folder: Path) -> None:
    pairs = [row["translation"] for row in pair_rows(12)]
    assert columns(build(folder)) == ([pair["en"] for pair in pairs], [pair["de"] for pair in pairs])
    back = build(folder, source_lang="de", target_lang="en")
    assert columns(back) == ([pair["de"] for pair in pairs], [pair["en"] for pair in pairs])


def test_a_column_for_each_language_is_read(tmp_path: Path) -> None:
    write_split(tmp_path, "train", [{"de": "b", "en": "a", "more": 1}, {"en": "A", "de": "B"}])
    assert columns(build(tmp_path, column=None)) == (["a", "A"], ["b", "B"])
    assert columns(build(tmp_path, column=None, lowercase=True)) == (["a", "a"], ["b", "b"])
    with pytest.raises(ValueError, match="has no column 'fr'"):
        columns(build(tmp_path, column=None, target_lang="fr"))


def test_a_missing_language_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"target_lang: row 0 of .*train\.jsonl has no text in 'fr'; its languages"):
        columns(build(folder, target_lang="fr"))
    write_split(folder, "train", [*pair_rows(2), {"translation": {"en": "a", "de": None}}])
    with pytest.raises(ValueError, match=r"target_lang: row 2 of .* has no text in 'de'; its languages are en"):
        columns(build(folder))


def test_another_layout_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path, "train", [{"translation": "a ||| b"}])
    with pytest.raises(ValueError, match=r"row 0 of .* has no text per language under 'translation' but .*set task"):
        columns(build(tmp_path))
    with pytest.raises(ValueError, match=r"has no column 'text'.*Its columns: translation"):
        columns(build(tmp_path, column="text"))


def test_no_language_is_translated_into_itself(folder: Path) -> None:
    with pytest.raises(ValueError, match="target_lang: is the source's language, 'en'"):
        build(folder, target_lang="en")


@pytest.mark.parametrize("lowercase", [False, True])
def test_the_score_is_sacrebleus(folder: Path, lowercase: bool) -> None:
    texts, references = ["The parser reads a file", "Ein Test hier"], ["the parser reads the file", "ein Test hier"]
    found = build(folder, lowercase=lowercase).score()(texts, references)
    assert found["bleu"] == sacrebleu.corpus_bleu(texts, [references], lowercase=lowercase).score
    assert found["chrf"] == sacrebleu.corpus_chrf(texts, [references]).score or lowercase
    assert found["length_ratio"] == 1.0


def test_a_signature_belongs_to_its_settings(folder: Path) -> None:
    about = build(folder, lowercase=True, bleu_tokenize="intl").about()
    assert about["metric_signatures"]["bleu"].startswith("nrefs:1|case:lc|eff:no|tok:intl|smooth:exp")
    assert about["metric_signatures"]["chrf"].startswith("nrefs:1|case:lc|eff:yes|nc:6|nw:0")
    assert (about["source_lang"], about["target_lang"]) == ("en", "de")


@pytest.mark.slow
def test_multi30k_has_its_rows_and_texts(shared_data: Path) -> None:
    task = build(shared_data / "multi30k" / "en-de")
    sizes = {}
    for split in ("train", "validation", "test"):
        table = task.read(task.source(), split)
        sizes[split] = len(table)
        assert all(table.columns["source"]) and all(table.columns["target"])
    assert sizes == {"train": 29_000, "validation": 1_014, "test": 1_000}
    assert columns(task)[0][0] == "Two young, White males are outside near many bushes."
