"""Two-shot and n-shot: which revision for how long, and what cannot be carried."""

from __future__ import annotations

import pytest
from builders import plan_context
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.curricula import NShot, Plan, TwoShot
from hf_distill.curricula.progressive import chosen_revisions, teacher_step


def layout(plan: Plan) -> list[tuple[int, str]]:
    """First step and name of each stage."""
    return [(plan.start_of(index), stage.name) for index, stage in enumerate(plan.stages)]


# ---- two-shot ----


def test_two_shot_learns_from_one_revision_then_from_the_final_teacher():
    plan = TwoShot(revision="step20", steps=30).plan(plan_context(10, 20, None))
    assert layout(plan) == [(0, "step20"), (30, "final")]
    assert [stage.revision for stage in plan.stages] == [1, 2]


def test_the_first_stage_is_a_quarter_of_the_run_unless_told():
    assert TwoShot(revision=10).plan(plan_context(10, None)).switches == [25]
    assert TwoShot(revision=10, share=0.6).plan(plan_context(10, None)).switches == [60]


def test_auto_must_be_chosen_before_planning():
    curriculum = TwoShot(steps=30)
    assert curriculum.needs_scores
    with pytest.raises(ValueError, match=r"revision `auto` must be resolved before planning.*teachers score"):
        curriculum.plan(plan_context(10, None))
    chosen = curriculum.with_chosen("step10")
    assert not chosen.needs_scores
    assert layout(chosen.plan(plan_context(10, None))) == [(0, "step10"), (30, "final")]


def test_the_final_teacher_is_no_first_revision():
    with pytest.raises(
        ValueError, match="'final' is the final teacher itself; name an earlier revision or use one_shot"
    ):
        TwoShot(revision="final", steps=3).plan(plan_context(10, None))


def test_a_first_stage_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match="strictly between 0 and the run's 100 steps"):
        TwoShot(revision=10, steps=100).plan(plan_context(10, None))


def test_a_revision_that_does_not_exist_is_refused():
    with pytest.raises(
        ValueError, match=r"two_shot\.revision: the teacher has no revision 'step3'; it has step10, final"
    ):
        TwoShot(revision="step3", steps=3).plan(plan_context(10, None))


# ---- n-shot with fixed lengths ----


def test_revisions_share_the_run_evenly_and_the_final_one_takes_the_rest():
    plan = NShot().plan(plan_context(10, 20, None, max_steps=100))
    assert layout(plan) == [(0, "step10"), (33, "step20"), (66, "final")]


def test_a_fixed_length_leaves_the_rest_to_the_final_teacher():
    plan = NShot(steps=10).plan(plan_context(10, 20, None))
    assert layout(plan) == [(0, "step10"), (10, "step20"), (20, "final")]


def test_chosen_revisions_come_in_the_given_order_and_the_final_one_last():
    plan = NShot(steps=10, revisions=["step20", 10]).plan(plan_context(10, 20, 30, None))
    assert layout(plan) == [(0, "step20"), (10, "step10"), (20, "final")]
    assert chosen_revisions(["final", "step10"], plan_context(10, None).revisions, 1, what="x") == [0, 1]


def test_a_single_revision_is_one_shot():
    assert layout(NShot().plan(plan_context(None))) == [(0, "final")]
    assert layout(NShot(interval=10).plan(plan_context(None))) == [(0, "final")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interval": 10, "steps": 5}, "give `interval` .* or `steps`"),
        ({"interval": 0}, "`interval` must be positive, got 0"),
        ({"steps": -1}, "`steps` must be positive, got -1"),
        ({"interval": 10, "speed": 0.0}, "`speed` must be positive, got 0"),
        ({"speed": 2.0}, "`speed` only means something with an `interval`"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NShot(**fields)


def test_the_teachers_pace_needs_steps_in_the_names():
    with pytest.raises(
        ValueError, match=r"`interval` needs a step in each revision's name; none in: final. Use `steps`"
    ):
        NShot(interval=10).plan(plan_context(10, None, 20))


# ---- the teacher's pace ----


@pytest.mark.parametrize(
    ("student_step", "speed", "expected"),
    [
        (0, 1.0, 1000),
        (999, 1.0, 1000),
        (1000, 1.0, 2000),
        (0, 2.0, 2000),
        (1500, 2.0, 4000),
        (0, 0.5, 1000),
        (2000, 0.5, 2000),
    ],
)
def test_the_teacher_step_is_that_of_the_papers_code(student_step, speed, expected):
    assert teacher_step(student_step, interval=1000, speed=speed) == expected


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    interval=st.integers(1, 50),
    speed=st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 10.0]),
    first=st.integers(1, 30),
    count=st.integers(1, 6),
)
def test_the_teacher_never_goes_back(interval, speed, first, count):
    revisions = (*range(first, first + 20 * count, 20), None)
    plan = NShot(interval=interval, speed=speed).plan(plan_context(*revisions, max_steps=97))
    order = [stage.revision for stage in plan.stages]
    assert order == sorted(set(order))
    assert all(step % interval == 0 for step in plan.switches)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(interval=st.integers(1, 40), step=st.integers(0, 96), speed=st.sampled_from([0.5, 1.0, 2.0]))
def test_the_plan_is_the_mapping_step_by_step(interval, step, speed):
    """The plan merges equal neighbours; looking each step up in the list of revisions must give the same."""
    revisions = (10, 25, 40, 80, None)
    plan = NShot(interval=interval, speed=speed).plan(plan_context(*revisions, max_steps=97))
    asked = teacher_step(step, interval=interval, speed=speed)
    at_most = [known for known in revisions[:-1] if known <= asked]
    expected = "final" if asked > 80 else f"step{at_most[-1] if at_most else 10}"
    assert plan.stage_at(step).name == expected
