"""Advice from plans made by hand: each rule on both of its sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plans import GB, cell, run_plan, size_of

from hf_distill.planning.advice import advise, check_possible, gigabytes, teacher_share
from hf_distill.planning.caching import cache_sizes
from hf_distill.planning.memory import MemoryLine
from hf_distill.planning.probe import Probe


def test_a_run_without_a_teacher_needs_no_targets():
    assert advise(run_plan(teacher=None, caches=[])).source == "none"


@pytest.mark.parametrize(("readings", "source"), [(1.9, "live"), (2.0, "hidden")])
def test_a_cache_that_is_read_once_is_recommended(readings, source):
    assert advise(run_plan(readings=readings)).source == source


@pytest.mark.parametrize(("share", "source"), [(0.05, "live"), (0.5, "hidden")])
def test_a_cheap_teacher_is_cached(share, source):
    probe = Probe(step_seconds=1.0, teacher_share=share, peak_bytes=1)
    assert advise(run_plan(cells=[cell(read={0: 10}, probe=probe)])).source == source


def test_a_few_classes_are_kept_whole():
    teacher = size_of(multiplied=10**7, outputs=3)
    assert advise(run_plan(teacher=teacher, caches=cache_sizes(teacher, 1000))).source == "logits"


def test_the_disk_decides_between_the_codecs():
    teacher = size_of(multiplied=10**7, hidden=4096)
    caches = cache_sizes(teacher, 10**6)
    by_codec = {cache.codec: cache.size for cache in caches}
    plan = run_plan(teacher=teacher, caches=caches)
    assert advise(replace(plan, free_bytes=2 * by_codec["hidden"])).source == "hidden"
    assert advise(replace(plan, free_bytes=2 * by_codec["hidden"] - 1)).source == "top_k"
    assert advise(replace(plan, free_bytes=2 * by_codec["top_k"] - 1)).source == "live"


def test_without_measurement_the_share_is_that_of_the_arithmetic():
    sizes = {"student": size_of(multiplied=10**9, outputs=2), "teacher": size_of(multiplied=6 * 10**9, outputs=2)}
    # Attention is next to nothing beside so many parameters.
    assert teacher_share(run_plan(**sizes)) == pytest.approx(2 * 6 / (2 * 6 + 6 * 1), rel=1e-3)


def test_a_step_that_does_not_fit_names_the_largest_part_and_the_fix():
    lines = [MemoryLine(name="teacher weights", size=9 * GB, fix="teacher.dtype: bfloat16")]
    with pytest.raises(ValueError, match=r"needs about 9 GB on the cpu, which has 8 GB.*weights, 9 GB.*bfloat"):
        check_possible(run_plan(memory=lines))


@pytest.mark.parametrize(
    ("revisions", "checkpoints", "fix"),
    [(9 * GB, 2 * GB, "the teacher's revisions; choose teacher.max_cached_gb"), (2 * GB, 9 * GB, "save_total_limit")],
)
def test_a_full_disk_names_what_fills_it(revisions, checkpoints, fix):
    with pytest.raises(ValueError, match=rf"needs about 11 GB of disk, of which 10 GB are free.*{fix}"):
        check_possible(run_plan(revision_bytes=revisions, checkpoint_bytes=checkpoints))


def test_a_run_that_fits_is_let_through():
    assert check_possible(run_plan()) is None
    assert gigabytes(1_234_000_000) == "1.23 GB"


def test_targets_that_cannot_be_cached_are_not_recommended_nor_taken_for_no_teacher():
    found = advise(run_plan(readings=4.0, caches=[]))
    assert (found.source, found.reason) == ("live", "targets of such a head are not cached")
    assert advise(run_plan(readings=0.0, caches=[])).source == "none"
