"""What a disk budget removes from a cache with the client's own layout, and what it never touches."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from teacher_folders import cache_model, commit_of, save_teacher

from hf_distill.teachers.checkpoint_files import whole_checkpoint_problem
from hf_distill.teachers.disk_budget import DiskBudget
from hf_distill.teachers.revision_spec import Revision

MODEL = "org/model"


class Cache:
    """A cache into which revisions are "downloaded" by laying them out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = 0

    def revision(self, name: str, *, there: bool = False) -> Revision:
        commit = commit_of(f"{MODEL}@{name}")
        folder = self.snapshot(commit) if there else None
        return Revision(name=name, step=None, source=MODEL, revision=name, commit=commit, folder=folder)

    def snapshot(self, commit: str) -> Path:
        return self.folder / "cache" / "models--org--model" / "snapshots" / commit

    def put(self, name: str, *, seed: int | None = None) -> Path:
        saved = self.folder / "saved" / name
        save_teacher(saved, seed=len(name) * 100 + int(name[4:]) if seed is None else seed)
        self.size = (saved / "model.safetensors").stat().st_size
        if not self.snapshot(commit_of(f"{MODEL}@{name}")).exists():
            cache_model(self.folder / "cache", MODEL, {name: saved})
        return self.snapshot(commit_of(f"{MODEL}@{name}"))

    def is_whole(self, name: str) -> bool:
        return whole_checkpoint_problem(self.snapshot(commit_of(f"{MODEL}@{name}"))) is None


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path)
    made.put("step0")
    return made


def run(budget: DiskBudget, cache: Cache, *names: str) -> None:
    """Fetch revisions in turn; once one teaches, those before it are no longer needed."""
    for index, name in enumerate(names):
        budget.fetch(cache.revision(name), lambda name=name: cache.put(name), size=lambda: cache.size)  # type: ignore[misc]
        budget.need([cache.revision(later) for later in names[index:]])


def test_revisions_left_behind_are_removed_and_what_was_there_before_is_not(cache: Cache) -> None:
    budget = DiskBudget(2.5 * cache.size / 1e9, cache_dir=cache.folder / "cache")
    budget.fetch(cache.revision("step0", there=True), lambda: cache.put("step0"), size=lambda: cache.size)
    run(budget, cache, "step1", "step2", "step3", "step4")
    assert [cache.is_whole(f"step{step}") for step in range(5)] == [True, False, False, True, True]
    left = list(cache.snapshot(commit_of(f"{MODEL}@step1")).iterdir())
    assert [path.name for path in left] == ["config.json"]


def test_without_a_limit_nothing_is_removed(cache: Cache) -> None:
    run(DiskBudget(None, cache_dir=cache.folder / "cache"), cache, "step1", "step2", "step3")
    assert all(cache.is_whole(f"step{step}") for step in range(4))


def test_revision_that_a_later_stage_needs_stays_and_the_excess_is_told_once(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    budget = DiskBudget(1.5 * cache.size / 1e9, cache_dir=cache.folder / "cache")
    with caplog.at_level(logging.WARNING):
        for name in ("step1", "step2", "step3"):
            budget.fetch(cache.revision(name), lambda name=name: cache.put(name), size=lambda: cache.size)  # type: ignore[misc]
    assert all(cache.is_whole(f"step{step}") for step in range(4))
    assert caplog.text.count("more than max_cached_gb") == 1


def test_weights_shared_with_a_revision_of_before_stay_readable(cache: Cache) -> None:
    budget = DiskBudget(0.5 * cache.size / 1e9, cache_dir=cache.folder / "cache")
    budget.fetch(cache.revision("step9"), lambda: cache.put("step9", seed=500), size=lambda: 0)
    assert cache.put("step0", seed=500)
    before = [path.resolve() for path in cache.snapshot(commit_of(f"{MODEL}@step0")).iterdir()]
    budget.need([])
    budget.make_room()
    assert not cache.is_whole("step9")
    assert cache.is_whole("step0")
    assert all(path.exists() for path in before)


def test_file_that_lay_in_a_half_finished_snapshot_is_not_removed(cache: Cache) -> None:
    folder = cache.put("step1")
    budget = DiskBudget(1e-9, cache_dir=cache.folder / "cache")
    budget.fetch(cache.revision("step1"), lambda: folder, size=lambda: 0)
    budget.need([])
    budget.make_room()
    assert cache.is_whole("step1")


@pytest.mark.parametrize("limit", [0, -1.0])
def test_senseless_limit_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match=f"max_cached_gb: expected a number above 0.*got {limit}"):
        DiskBudget(limit)
