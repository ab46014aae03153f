from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_cases import LOGITS, Case, write_cache

from hf_distill.cache.format import MANIFEST, SHARDS, Manifest
from hf_distill.cache.reader import CacheReader
from hf_distill.cache.writer import CacheWriter


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write_cache(tmp_path_factory.mktemp("cache"), "masked_lm", LOGITS)


@pytest.fixture
def folder(case: Case, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(case.cache, tmp_path / "cache"))


def flip(path: Path, place: int) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def one_file(folder: Path, part: str) -> Path:
    return sorted((folder / part).glob("*.safetensors"))[0]


def test_a_whole_cache_is_read(case: Case) -> None:
    reader = CacheReader(case.cache, show_progress=False)
    described = reader.describe()
    assert described["codec"] == "logits float32"
    assert described["examples"] == reader.manifest.examples == case.caching.forwarded
    assert described["bytes"] == sum(
        p.stat().st_size for p in case.cache.rglob("*") if p.name != MANIFEST and p.is_file()
    )
    assert reader.head(reader.manifest.revisions[0]["commit"]) is None


@pytest.mark.parametrize("part", ["shards", "index"])
@pytest.mark.parametrize("place", [-1, 20, 0], ids=["data", "header", "length"])
def test_a_flipped_bit_is_refused_by_name_before_anything_is_read(folder: Path, part: str, place: int) -> None:
    path = one_file(folder, part)
    flip(path, place)
    with pytest.raises(ValueError, match=f"{part}/{path.name} is damaged.*hf-distill cache"):
        CacheReader(folder, show_progress=False)


@pytest.mark.parametrize("part", ["shards", "index", "teacher"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_missing_or_truncated_file_is_refused_by_name(folder: Path, part: str, damage: str) -> None:
    path = one_file(folder, part) if part != "teacher" else folder / "teacher" / "config.json"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=f"{part}/{path.name} is {'missing' if damage == 'gone' else 'cut short'}"):
        CacheReader(folder, show_progress=False)


def test_an_unfinished_cache_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    writer = CacheWriter(
        tmp_path / "new", settings=case.caching.manifest.settings, revisions=case.caching.manifest.revisions
    )
    with pytest.raises(ValueError, match=r"unfinished: cache\.json says so"):
        CacheReader(writer.folder)


def test_damage_that_was_not_looked_for_shows_where_it_is_read(folder: Path) -> None:
    path = one_file(folder, "shards")
    path.write_bytes(path.read_bytes()[:-3])
    reader = CacheReader(folder, verify=False)
    with pytest.raises(ValueError, match=f"{path.name} is cut short"):
        for commit in reader._index.commits:
            keys, counts = _all_of(reader, commit)
            reader.read(commit, keys, counts)


def _all_of(reader: CacheReader, commit: str) -> tuple[torch.Tensor, np.ndarray]:
    """The addresses of a revision's targets and the rows of each."""
    index = reader._index
    place = index.commits.index(commit)
    here = slice(index._offsets[place], index._offsets[place + 1])
    keys = np.stack([index._columns["high"][here], index._columns["low"][here]], axis=1)
    return torch.from_numpy(keys), np.array(index._columns["count"][here], dtype=np.int64)


def test_rows_come_in_the_order_that_is_asked_for_whatever_shard_they_lie_in(case: Case, tmp_path: Path) -> None:
    """Many small shards and one large one give the same rows."""
    whole = CacheReader(case.cache, show_progress=False)
    parts = write_cache(tmp_path, "masked_lm", LOGITS)
    assert len(Manifest.load(parts.cache).shards) == 3
    split = tmp_path / "split"
    writer = CacheWriter(split, settings=whole.manifest.settings, revisions=whole.manifest.revisions, shard_bytes=1)
    commit = whole._index.commits[0]
    keys, counts = _all_of(whole, commit)
    for place in range(len(keys)):
        rows = whole.read(commit, keys[place : place + 1], counts[place : place + 1])
        writer.add(commit, keys[place : place + 1], torch.from_numpy(counts[place : place + 1]), rows)
    writer.finish()
    many = CacheReader(split, show_progress=False)
    assert len(many.manifest.shards) == len(keys) > 5
    order = torch.randperm(len(keys))
    asked, wanted = keys[order], counts[order.numpy()]
    ours, theirs = many.read(commit, asked, wanted), whole.read(commit, asked, wanted)
    assert ours["logits"].equal(theirs["logits"])
    assert len(ours["logits"]) == wanted.sum()


def test_examples_without_rows_are_not_looked_for(case: Case) -> None:
    reader = CacheReader(case.cache, show_progress=False)
    commit = reader._index.commits[0]
    nothing = reader.read(commit, torch.zeros(3, 2, dtype=torch.int64), np.zeros(3, dtype=np.int64))
    assert nothing["logits"].shape == (0, 40)


def test_a_missing_example_is_named_with_the_likely_reasons(case: Case) -> None:
    reader = CacheReader(case.cache, show_progress=False)
    commit = reader._index.commits[0]
    keys, counts = _all_of(reader, commit)
    keys[2] ^= 1
    name = next(r["name"] for r in reader.manifest.revisions if r["commit"] == commit)
    said = f"1 of {len(keys)} examples .* no target of the teacher revision '{name}'.*drawn anew in every.*max_length"
    with pytest.raises(ValueError, match=said):
        reader.read(commit, keys, counts)
    with pytest.raises(ValueError, match=said):
        reader.check(commit, keys, np.ones(len(keys), dtype=bool))
    reader.check(commit, keys, np.arange(len(keys)) != 2)
    with pytest.raises(ValueError, match="holds no target of this revision at all"):
        reader.read("0" * 40, keys, counts)


def test_a_cache_that_leads_out_of_its_folder_is_refused_even_unverified(folder: Path) -> None:
    manifest = Manifest.load(folder)
    index = next(file for file in manifest.files if file.path.startswith("index/"))
    others = [file for file in manifest.files if file is not index]
    manifest.with_files([*others, replace(index, path=f"../cache/{index.path}")]).save(folder)
    with pytest.raises(ValueError, match="is no file of its folder"):
        CacheReader(folder, verify=False)
    manifest.with_files([file for file in manifest.files if not file.path.startswith(SHARDS)]).save(folder)
    with pytest.raises(ValueError, match=r"the index names 'shards/.*', which cache\.json does not know"):
        CacheReader(folder, verify=False)


def test_another_number_of_rows_is_refused(case: Case) -> None:
    reader = CacheReader(case.cache, show_progress=False)
    commit = reader._index.commits[0]
    keys, counts = _all_of(reader, commit)
    with pytest.raises(ValueError, match="have another number of rows"):
        reader.read(commit, keys, counts + 1)


@pytest.mark.slow
def test_more_shards_than_may_be_open_are_read(case: Case, tmp_path: Path) -> None:
    manifest = case.caching.manifest
    writer = CacheWriter(tmp_path / "c", settings=manifest.settings, revisions=manifest.revisions, shard_bytes=1)
    commit = manifest.revisions[0]["commit"]
    keys = torch.randint(-(2**62), 2**62, (150, 2))
    for place in range(150):
        rows = {"logits": torch.full((1, 40), float(place))}
        writer.add(commit, keys[place : place + 1], torch.ones(1, dtype=torch.int64), rows)
    writer.finish()
    assert len(list((tmp_path / "c" / SHARDS).iterdir())) == 150
    reader = CacheReader(tmp_path / "c", show_progress=False)
    for _ in range(2):
        found = reader.read(commit, keys, np.ones(150, dtype=np.int64))["logits"]
        assert found[:, 0].tolist() == list(range(150))
    assert len(reader._open) <= 64
