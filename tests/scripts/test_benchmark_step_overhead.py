"""The benchmark compares two ways to do one work; a ratio of two different works would say nothing."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_step_overhead.py"


@pytest.fixture(scope="module")
def benchmark() -> SimpleNamespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # where a script finds its neighbours
        return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def test_both_sides_step_the_same_parameters_with_the_same_optimizer(benchmark, tmp_path):
    student, teacher = benchmark.bert(1, 64, 50), benchmark.bert(1, 64, 50)
    data = benchmark.batches(2, 2, 8, 50)
    bare = benchmark.fused_adamw(student)
    ours = benchmark.trainer_of(student, teacher, data, 2, str(tmp_path)).create_optimizer()
    assert type(bare) is type(ours)
    assert len(bare.param_groups) == len(ours.param_groups)
    for one, other in zip(bare.param_groups, ours.param_groups, strict=True):
        ids = [{id(parameter) for parameter in group.pop("params")} for group in (one, other)]
        assert ids[0] == ids[1]
        assert one == other


def test_all_sides_run(benchmark, tmp_path):
    student, teacher = benchmark.bert(1, 64, 50), benchmark.bert(1, 64, 50).eval()
    data = benchmark.batches(2, 2, 8, 50)
    seconds = [benchmark.bare_steps(student, teacher, data, 2, loss_of) for loss_of in benchmark.LOOPS.values()]
    assert min(*seconds, benchmark.trainer_steps(student, teacher, data, 2, str(tmp_path))) > 0


def test_the_loops_compare_the_same_numbers(benchmark):
    """All three are one loss, computed from more or less of the vocabulary's logits."""
    student, teacher = benchmark.bert(1, 64, 50).eval(), benchmark.bert(1, 64, 50).eval()
    rows = benchmark.batches(1, 4, 16, 50)
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    labelled = batch.pop("labels") != -100
    losses = [loss_of(student, teacher, batch, labelled).item() for loss_of in benchmark.LOOPS.values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
