from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.cache.index import Index, ShardKeys, write_index

# Few different halves, so that addresses share one.
HALVES = st.sampled_from([-(2**63), -1, 0, 5, 2**63 - 1])
KEYS = st.lists(st.tuples(HALVES, HALVES), min_size=0, max_size=12, unique=True)


def shard(path: str, commit: str, keys: list[tuple[int, int]]) -> ShardKeys:
    counts = np.arange(1, len(keys) + 1)
    return ShardKeys(path, commit, np.array(keys, dtype=np.int64).reshape(-1, 2), counts)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=60)
@given(first=KEYS, second=KEYS, other=KEYS, asked=KEYS)
def test_every_address_is_found_where_it_lies_and_no_other_is(tmp_path_factory, first, second, other, asked):
    folder = tmp_path_factory.mktemp("index")
    second = [key for key in second if key not in first]
    shards = [shard("one", "a", first), shard("two", "a", second), shard("three", "b", other)]
    index = Index(folder / write_index(folder, shards).name)
    assert len(index) == len(first) + len(second) + len(other)
    for commit in ("a", "b", "c"):
        places = index.find(commit, np.array(asked, dtype=np.int64).reshape(-1, 2))
        for number, key in enumerate(asked):
            holders = [s for s in shards if s.commit == commit and key in list(map(tuple, s.keys.tolist()))]
            found = places.shard[number]
            if not holders:
                assert (found, places.start[number], places.rows[number]) == (-1, -1, -1)
                continue
            (holder,) = holders
            at = holder.keys.tolist().index(list(key))
            assert index.shards[found] == holder.path
            assert places.start[number] == sum(holder.counts[:at])
            assert places.rows[number] == holder.counts[at]


def test_an_example_that_two_shards_hold_is_found_in_the_first(tmp_path: Path) -> None:
    shards = [shard("one", "a", [(1, 2), (3, 4)]), shard("two", "a", [(3, 4), (5, 6)])]
    index = Index(tmp_path / write_index(tmp_path, shards).name)
    assert len(index) == 3
    assert index.find("a", np.array([[3, 4], [5, 6]])).shard.tolist() == [0, 1]


def test_an_index_of_nothing_finds_nothing(tmp_path: Path) -> None:
    index = Index(tmp_path / write_index(tmp_path, []).name)
    assert len(index) == 0
    assert index.find("a", np.array([[1, 2]])).shard.tolist() == [-1]


def test_a_large_index_is_searched_without_being_wrong(tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (50_000, 2))
    written = write_index(tmp_path, [ShardKeys("one", "a", keys, np.ones(len(keys), dtype=np.int64))])
    places = Index(tmp_path / written.name).find("a", keys[::7])
    assert places.start.tolist() == list(range(0, 50_000, 7))


@pytest.mark.parametrize("count", [0, 3])
def test_no_addresses_are_found_at_once(tmp_path: Path, count: int) -> None:
    index = Index(tmp_path / write_index(tmp_path, [shard("one", "a", [(1, 1)] * min(count, 1))]).name)
    assert len(index.find("a", np.zeros((0, 2), dtype=np.int64)).shard) == 0
