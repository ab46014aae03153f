"""A step's share for each GPU, and what a recipe's plan says about it."""

from __future__ import annotations

import pytest
from plans import cell, run_plan
from scaled_work import work

from hf_distill.planning.engines import ENGINES
from hf_distill.planning.memory import TeacherCall
from hf_distill.planning.model_states import StepSettings
from hf_distill.planning.work import placement_named, share_of, teacher_call_of, with_batch, work_of


@pytest.mark.parametrize(
    ("total", "gpus", "most", "share"),
    [
        (1024, 1, 64, (64, 16)),
        (1024, 16, 64, (64, 1)),
        (1024, 64, 64, (16, 1)),
        (96, 1, 64, (48, 2)),
        (100, 1, 64, (50, 2)),
        (7, 1, 4, (1, 7)),
        (100, 8, 64, None),
        (4, 8, 64, None),
    ],
)
def test_a_step_is_shared_out_and_is_the_same_step(total, gpus, most, share):
    found = share_of(total, gpus, most=most)
    assert found == share
    if found is not None:
        assert gpus * found.examples * found.accumulation == total
        assert found.examples <= most


def test_a_smaller_micro_batch_has_fewer_of_everything():
    half = with_batch(work(), examples=4, accumulation=2)
    assert (half.shape.positions, half.shape.rows, half.settings.accumulation) == (4000, 1000, 2)
    assert half.examples == work().examples
    assert half.head_bytes() < work().head_bytes()


def test_a_head_in_tiles_is_not_taken_for_whole_logits():
    tiled, dense = work(), work(tiled=False)
    assert dense.head_bytes() > tiled.head_bytes() > tiled.head_bytes(with_teacher=False)


def test_revisions_change_as_often_as_in_the_quickest_curriculum():
    plan = run_plan(cells=[cell(read={2: 100}), cell(read={0: 10, 1: 10, 2: 80}), cell(read={0: 50, 2: 50})])
    found = work_of(plan)
    assert found.revision_steps == pytest.approx(100 / 3)
    assert work_of(run_plan(cells=[cell(read={2: 100})])).revision_steps is None
    assert (found.student, found.teacher, found.shape) == (plan.student, plan.teacher, plan.shape)
    assert found.settings.half, "the launch configurations ask for bf16"


def test_a_window_counts_only_where_the_teacher_can_answer_it():
    settings = StepSettings(window=True, accumulation=4)
    assert work_of(run_plan(settings=settings)).settings.window
    assert not work_of(run_plan(settings=settings, joins=False)).settings.window
    asked = work_of(run_plan(settings=settings))
    assert teacher_call_of(asked, "offloaded", ENGINES["ddp"], 8) == TeacherCall(window=4, together=4, lent=True)
    assert teacher_call_of(asked, "replicated", ENGINES["zero2"], 8) == TeacherCall()
    assert teacher_call_of(asked, "sharded", ENGINES["fsdp2"], 8) == TeacherCall(ranks=8)
    assert not teacher_call_of(work_of(run_plan(tiled=False)), "offloaded", ENGINES["ddp"], 8).first


def test_a_typo_is_answered_with_the_nearest_place():
    assert placement_named("cached") == "cached"
    with pytest.raises(ValueError, match="Did you mean `offloaded`"):
        placement_named("offload")
