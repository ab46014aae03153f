from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_distill.tasks.text_sources import HubText, LocalText, PythonDocs, text_source


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_no_source_is_taken_for_another() -> None:
    assert isinstance(text_source("python-docs"), PythonDocs)
    assert text_source({"path": "x", "column": "c"}) == LocalText(path="x", column="c")
    assert text_source({"hub": "o/n", "split": "train[:9]"}) == HubText(hub="o/n", split="train[:9]")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("python-dosc", "mean `python-docs`"),
        ({"folder": "x"}, r"expected `python-docs`, \{path"),
        ({"path": "x", "colum": "c"}, r"data\.colum: unknown key.*mean `column`"),
        ({"hub": "o/n", "revison": "v1"}, r"data\.revison.*mean `revision`"),
        ({"path": 3}, r"data\.path: expected text"),
        (None, "got null"),
    ],
)
def test_a_typo_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_source(spec)


def test_paragraphs_are_not_joined_and_blank_ones_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\nfirst\nsecond\n \n\nthird é\n", encoding="utf-8")
    corpus = LocalText(path=str(file)).read()
    assert corpus.train == ["first\nsecond", "third é"]
    assert corpus.validation is None


def test_a_folder_is_read_whole_and_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("third")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b.md").write_text("not read")
    write_lines(tmp_path / "aa.jsonl", [{"text": "second\n\none document"}, {"text": " "}])
    assert LocalText(path=str(tmp_path)).read().train == ["first", "second\n\none document", "third"]


def test_held_out_text_of_its_own_is_used(tmp_path: Path) -> None:
    train, held_out = (write_lines(tmp_path / f"{n}.jsonl", [{"body": n}]) for n in ("train", "held_out"))
    corpus = LocalText(path=str(train), validation_path=str(held_out), column="body").read()
    assert (list(corpus.train), list(corpus.validation)) == (["train"], ["held_out"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "fine"}\n{"text": \n', "line 2, is not JSON"),
        (b'{"body": "x", "id": 1}\n', "no text under 'text'; its keys: body, id"),
        (b'{"text": null}\n', "no text under 'text'"),
        (b"[1]\n", "no text under 'text'; its keys: none"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"\n\n", "no text in .* 1 .txt and .jsonl files"),
    ],
)
def test_a_broken_file_is_not_read_in_part(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        LocalText(path=str(file)).read()


def test_a_missing_folder_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.validation_path: .*does not exist"):
        LocalText(path=str(tmp_path), validation_path=str(tmp_path / "none")).read()


def test_a_data_set_is_not_read_without_its_split_or_column(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"body": f"t{n}"} for n in range(3)] + [{"body": " "}])
    write_lines(tmp_path / "validation.jsonl", [{"body": "v"}])
    corpus = HubText(hub=str(tmp_path), column="body", split="train[1:]", validation_split="validation").read()
    assert (list(corpus.train), list(corpus.validation)) == (["t1", "t2"], ["v"])
    assert corpus.datasets == [str(tmp_path)]
    with pytest.raises(ValueError, match=r"no column 'bodi'. Did you mean `body`\? Its columns: body"):
        HubText(hub=str(tmp_path), column="bodi").read()


def test_a_data_set_out_of_reach_says_what_to_download() -> None:
    with pytest.raises(
        ValueError, match=r"(?s)'org/none', configuration 'small' at revision 'v1'.*hf download.*org/none"
    ):
        HubText(hub="org/none", name="small", revision="v1").read()


# ---- several sources ----


def test_several_sources_are_read_one_behind_the_other(tmp_path):
    (tmp_path / "one.txt").write_text("first\n\nsecond\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text("third\n", encoding="utf-8")
    corpus = text_source([{"path": str(tmp_path / "two.txt")}, {"path": str(tmp_path / "one.txt")}]).read()
    assert list(corpus.train) == ["third", "first", "second"]
    assert corpus.validation is None
    assert corpus.source.count(" + ") == 1


def test_held_out_text_of_one_source_only_is_not_taken_for_all(tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("first\n\nsecond\n", encoding="utf-8")
    both = [{"path": str(file)}, {"path": str(file), "validation_path": str(file)}]
    with pytest.raises(ValueError, match="1 of 2 sources have held-out text of their own"):
        text_source(both).read()


def test_an_unknown_source_in_a_list_is_not_passed_over():
    with pytest.raises(ValueError, match="Did you mean `python-docs`"):
        text_source(["python-doc"])
