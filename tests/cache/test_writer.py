from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_distill.cache.format import HEADS, MANIFEST, SHARDS, Manifest, Settings
from hf_distill.cache.reader import CacheReader
from hf_distill.cache.writer import CacheWriter
from hf_distill.kernels.head_rows import HeadRows

SETTINGS = Settings(codec={"name": "logits"}, head="masked_lm", vocabulary=5, inputs=["input_ids"])
FIRST, SECOND = "a" * 40, "b" * 40


def revision(name: str, commit: str) -> dict[str, Any]:
    return {"name": name, "step": None, "source": "org/model", "revision": name, "commit": commit}


REVISIONS = [revision("one", FIRST), revision("two", SECOND)]


def open_writer(folder: Path, **changes: Any) -> CacheWriter:
    return CacheWriter(folder, **{"settings": SETTINGS, "revisions": REVISIONS, **changes})


def keys(*numbers: int) -> torch.Tensor:
    return torch.tensor([[number, -number] for number in numbers])


def put(writer: CacheWriter, commit: str, *numbers: int) -> list[int]:
    """Bring examples of one row each, as a walk does; return those that were new."""
    mine = writer.claim(commit, keys(*numbers), torch.ones(len(numbers), dtype=torch.bool))
    new = [number for number, wanted in zip(numbers, mine, strict=True) if wanted]
    if new:
        rows = torch.tensor([[float(number)] * 5 for number in new])
        writer.add(commit, keys(*new), torch.ones(len(new), dtype=torch.int64), {"logits": rows})
    return new


def values(folder: Path, commit: str, *numbers: int) -> list[float]:
    read = CacheReader(folder, show_progress=False).read(commit, keys(*numbers), np.ones(len(numbers), dtype=np.int64))
    return read["logits"][:, 0].tolist()


def files(folder: Path, part: str = SHARDS) -> list[str]:
    return sorted(path.name for path in (folder / part).iterdir())


def test_an_example_is_claimed_once_for_each_revision(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "c")
    assert put(writer, FIRST, 1, 2, 1) == [1, 2]
    assert put(writer, SECOND, 2, 3) == [2, 3]
    assert put(writer, FIRST, 3, 2) == [3]
    manifest = writer.finish()
    assert (manifest.examples, manifest.rows, writer.forwarded, writer.known) == (5, 5, 5, 5)
    assert {shard.commit: shard.examples for shard in manifest.shards} == {FIRST: 3, SECOND: 2}
    assert values(tmp_path / "c", FIRST, 3, 1) == [3.0, 1.0]
    assert values(tmp_path / "c", SECOND, 2) == [2.0]


def test_examples_without_rows_are_not_claimed(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "c")
    mine = writer.claim(FIRST, keys(1, 2), torch.tensor([False, True]))
    assert mine.tolist() == [False, True]


def test_a_second_session_brings_only_what_is_missing(tmp_path: Path) -> None:
    """As after a kill: no list names the shards of the first one."""
    first = open_writer(tmp_path / "c", shard_bytes=1)
    put(first, FIRST, 1, 2)
    put(first, SECOND, 3)
    assert not Manifest.load(tmp_path / "c").complete
    second = open_writer(tmp_path / "c")
    assert put(second, FIRST, 1, 2, 4) == [4]
    assert put(second, SECOND, 3) == []
    second.finish()
    assert second.forwarded == 1
    assert values(tmp_path / "c", FIRST, 4, 2, 1) == [4.0, 2.0, 1.0]


def test_a_killed_write_leaves_nothing_that_is_taken_for_a_shard(tmp_path: Path) -> None:
    put(open_writer(tmp_path / "c", shard_bytes=1), FIRST, 1)
    (whole,) = files(tmp_path / "c")
    content = (tmp_path / "c" / SHARDS / whole).read_bytes()
    (tmp_path / "c" / SHARDS / f".{whole}.0123.tmp").write_bytes(content[:50])
    again = open_writer(tmp_path / "c")
    assert files(tmp_path / "c") == [whole]
    assert put(again, FIRST, 1, 2) == [2]


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_shard_is_written_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    writer = open_writer(tmp_path / "c", shard_bytes=1)
    put(writer, FIRST, 1)
    put(writer, FIRST, 2)
    writer.finish(walks={"w": 3})
    path = tmp_path / "c" / SHARDS / files(tmp_path / "c")[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-1])
    again = open_writer(tmp_path / "c")
    assert f"{path.name} is damaged" in caplog.text
    assert again.walks == {}, "a run whose examples are not all there any more must be walked again"
    assert len(put(again, FIRST, 1, 2)) == 1
    again.finish()
    assert values(tmp_path / "c", FIRST, 1, 2) == [1.0, 2.0]


def test_a_finished_cache_stays_readable_while_it_grows(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "c")
    put(writer, FIRST, 1)
    writer.finish(walks={"w": 3})
    growing = open_writer(tmp_path / "c", shard_bytes=1)
    assert growing.walks == {"w": 3}
    put(growing, FIRST, 2)
    assert values(tmp_path / "c", FIRST, 1) == [1.0]
    with pytest.raises(ValueError, match="1 of 1 examples"):
        values(tmp_path / "c", FIRST, 2)
    manifest = growing.finish(walks={"v": 4})
    assert manifest.walks == {"v": 4, "w": 3}
    assert values(tmp_path / "c", FIRST, 2, 1) == [2.0, 1.0]
    assert len(files(tmp_path / "c", "index")) == 1


def test_writing_the_same_again_changes_no_file(tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        writer = open_writer(tmp_path / "c")
        put(writer, FIRST, 1, 2)
        assert writer.finish().examples == 2
        states.append({path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()})
    assert states[0] == states[1]


def test_shards_are_written_by_size_and_by_time(tmp_path: Path) -> None:
    sized = open_writer(tmp_path / "size", shard_bytes=4 * (16 + 4 + 5 * 4))
    for number in range(1, 10):
        put(sized, FIRST, number)
    assert len(files(tmp_path / "size")) == 2
    timed = open_writer(tmp_path / "time", shard_seconds=0.0)
    put(timed, FIRST, 1)
    put(timed, FIRST, 2)
    assert len(files(tmp_path / "time")) == 2


def test_heads_are_kept_once(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "c")
    assert not writer.has_head(FIRST)
    writer.put_head(FIRST, HeadRows(hidden_RH=torch.zeros(1, 2), weight_VH=torch.ones(5, 2)))
    assert writer.has_head(FIRST)
    assert not writer.has_head(SECOND)
    again = open_writer(tmp_path / "c")
    assert again.has_head(FIRST)
    assert again.finish().head_file(FIRST) is not None
    (tmp_path / "c" / HEADS / files(tmp_path / "c", HEADS)[0]).write_bytes(b"broken")
    assert not open_writer(tmp_path / "c").has_head(FIRST)


# ---- what is not written into ----


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codec": {"name": "top_k", "k": 3}}, r"codec is \{'name': 'logits'\} there"),
        ({"head": "causal_lm"}, "head is masked_lm there and causal_lm here"),
        ({"vocabulary": 6}, "vocabulary is 5 there and 6 here"),
        ({"tokenizer": "other"}, "tokenizer is None there and other here"),
        ({"max_length": 128}, "max_length is None there and 128 here"),
        ({"precision": "bf16"}, "precision is no there and bf16 here"),
        ({"loading": {"dtype": "bfloat16"}}, r"loading is \{\} there and \{'dtype': 'bfloat16'\} here"),
        ({"inputs": ["input_ids", "token_type_ids"]}, "inputs is"),
    ],
)
def test_a_cache_of_another_kind_is_left_alone(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    open_writer(tmp_path / "c")
    before = (tmp_path / "c" / MANIFEST).read_bytes()
    with pytest.raises(ValueError, match=f"of another kind: {said}.*--output"):
        open_writer(tmp_path / "c", settings=Settings(**{**vars(SETTINGS), **changes}))
    assert (tmp_path / "c" / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "revisions", [[revision("one", "c" * 40), REVISIONS[1]], REVISIONS[:1], [*reversed(REVISIONS)]]
)
def test_a_cache_of_another_teacher_is_left_alone(tmp_path: Path, revisions: list[dict[str, Any]]) -> None:
    open_writer(tmp_path / "c")
    with pytest.raises(ValueError, match="another sequence of teacher revisions"):
        open_writer(tmp_path / "c", revisions=revisions)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and holds no cached targets"):
        open_writer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
