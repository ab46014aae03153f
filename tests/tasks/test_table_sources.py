from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from tables import write_split

from hf_distill.tasks.table_sources import HubTables, LocalTables, table_source

ROWS = [{"text": "one\u2028two", "label": 1, "idx": 0}, {"text": "drei", "label": 0, "idx": 1}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_split(tmp_path, "train", ROWS)
    return write_split(tmp_path, "validation", ROWS[1:])


def hub_folder(root: Path) -> Path:
    """A folder as the Hub's converted data sets are: parquet files with named classes."""
    (root / "data").mkdir()
    features = Features(
        {"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-x"])), "text": Value("string")}
    )
    rows = {"tokens": [["a", "b"]], "tags": [[0, 1]], "text": ["a b"]}
    for split in ("train", "validation"):
        Dataset.from_dict(rows, features=features).to_parquet(str(root / "data" / f"{split}-00000-of-00001.parquet"))
    return root / "data"


def test_a_line_separator_inside_of_a_text_does_not_cut_it(folder: Path) -> None:
    table = LocalTables(path=str(folder)).read("train", ["text", "label"])
    assert table.columns == {"text": ["one\u2028two", "drei"], "label": [1, 0]}
    assert len(table) == 2
    assert table.take([1]).columns == {"text": ["drei"], "label": [0]}


def test_the_names_beside_the_files_are_read(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(["no", "yes"]))
    source = LocalTables(path=str(folder))
    assert source.read("train", ["label"]).names == {"label": ["no", "yes"]}
    (folder / "labels.json").write_text(json.dumps({"no": 0}))
    with pytest.raises(ValueError, match="should be a list of the classes' names"):
        source.read("train", ["label"])


def test_a_hub_data_set_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    source = HubTables(hub=str(hub_folder(tmp_path)))
    table = source.read("train", ["tokens", "tags", "text"])
    assert table.columns == {"tokens": [["a", "b"]], "tags": [[0, 1]], "text": ["a b"]}
    assert table.names == {"tags": ["O", "B-x"]}
    assert source.source == str(tmp_path / "data")


def test_each_language_is_a_table_of_its_own(tmp_path: Path) -> None:
    for language in ("en", "de"):
        write_split(tmp_path / language, "train", [{"text": language}])
    source = table_source({"path": str(tmp_path / "{language}"), "split": "train", "validation_split": "dev"})
    assert source.by_language
    german = source.in_language("de")
    assert german.read("train", ["text"]).columns == {"text": ["de"]}
    assert (german.by_language, german.validation_split) == (False, "dev")
    hub = table_source({"hub": "google/xtreme", "name": "PAN-X.{language}", "revision": "v1"}).in_language("sw")
    assert isinstance(hub, HubTables)
    assert (hub.name, hub.revision) == ("PAN-X.sw", "v1")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, r"data: expected \{path: FOLDER\} or \{hub: ORG/NAME\}, got \{\}"),
        ({"path": "x", "spilt": "train"}, "data.spilt: unknown key. Did you mean `split`"),
        ({"hub": "a/b", "path": "x"}, "data.hub: unknown key"),
    ],
)
def test_a_misspelt_source_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_source(spec)


def test_what_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    source = LocalTables(path=str(folder))
    with pytest.raises(ValueError, match=r"no split 'test'. Its splits: train, validation"):
        source.read("test", ["text"])
    with pytest.raises(ValueError, match=r"line 1, has no column 'lable'. Did you mean `label`\? Its columns: text"):
        source.read("train", ["lable"])
    with pytest.raises(ValueError, match="is no folder"):
        LocalTables(path=str(folder / "absent")).read("train", ["text"])
    with pytest.raises(ValueError, match=r"empty.jsonl is empty; a split needs a row"):
        (folder / "empty.jsonl").write_text("\n")
        source.read("empty", ["text"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": ', "line 2, is not JSON"),
        (b'["a"]\n', "line 1: expected columns and their values"),
        (b'{"text": "\xff"}\n', "is not UTF-8"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        LocalTables(path=str(tmp_path)).read("train", ["text"])


def test_a_hub_data_set_without_the_column_is_refused(tmp_path: Path) -> None:
    source = HubTables(hub=str(hub_folder(tmp_path)))
    with pytest.raises(ValueError, match=r"has no column 'tag'. Did you mean `tags`\?"):
        source.read("train", ["tag"])
    with pytest.raises(ValueError, match=r"read local files with the same columns: \{path: FOLDER\}"):
        source.read("test", ["tags"])
