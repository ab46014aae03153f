"""What holds for every registered curriculum, and the published worked example of the teacher's pace."""

from __future__ import annotations

import dataclasses

import pytest
from builders import HEADS, plan_context
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.curricula import CURRICULA, Curriculum, Plan, PlanContext

# Arguments of each curriculum; the teacher has revisions at 10, 20, 30 and a final model.
BUILD: dict[str, list[dict]] = {
    "labels": [{}],
    "one_shot": [{}, {"label_mix": 0.5, "temperature": 2.0}],
    "two_shot": [{"revision": "step20", "steps": 7}, {"revision": 10, "share": 0.5}],
    "n_shot": [{}, {"steps": 3}, {"interval": 10}, {"interval": 10, "speed": 2.0}, {"revisions": ["step20"]}],
    "extraction": [{}, {"steps": 5, "layers": [[1, 2]]}],
    "annealing": [{}, {"tau_max": 3, "steps": 20}],
    "continuation": [{}, {"margin": 0.0, "until": 0.5}],
    "adaptive": [{"level": 0.6}, {"saturation": True}, {"max_stage_steps": 5, "revisions": [20]}],
}
CASES = [(name, fields) for name in CURRICULA for fields in BUILD.get(name, [])]
MAX_STEPS = 60


def built(name: str, fields: dict) -> Curriculum:
    return CURRICULA.build({"name": name, **fields}, path="curriculum")


def context_of(*, max_steps: int = MAX_STEPS, head: str = "classification") -> PlanContext:
    context = plan_context(10, 20, 30, None, max_steps=max_steps, head=head)
    return dataclasses.replace(context, student_layers=2, teacher_layers=4)


def plan_of(name: str, fields: dict, *, max_steps: int = MAX_STEPS, head: str = "classification") -> Plan:
    return built(name, fields).plan(context_of(max_steps=max_steps, head=head))


def test_no_registered_curriculum_is_left_out():
    assert set(BUILD) == set(CURRICULA), "give the new curriculum its arguments in BUILD"


@pytest.mark.parametrize(("name", "fields"), CASES)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_learn_from_every_curriculum(name, fields, head):
    if head == "question_answering" and name in ("annealing", "continuation"):
        pytest.skip("compares logits over all positions, padding too; it is refused")
    stages = plan_of(name, fields, head=head).stages
    assert all(stage.terms for stage in stages)
    assert all(head in term.objective.heads for stage in stages for term in stage.terms)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_the_last_stage_learns_from_the_final_teacher_or_from_labels(name, fields):
    last = plan_of(name, fields).stages[-1]
    with_teacher = any(term.objective.uses_teacher for term in last.terms)
    assert last.revision == (3 if with_teacher else None)
    assert with_teacher or last.needs == {"labels"}


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_stage_has_a_revision_exactly_where_it_runs_a_teacher(name, fields):
    for stage in plan_of(name, fields).stages:
        assert (stage.revision is not None) == any(term.objective.uses_teacher for term in stage.terms)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_switches_lie_inside_the_run_in_order(name, fields):
    switches = plan_of(name, fields).switches
    assert switches == sorted(set(switches))
    assert all(0 < step < MAX_STEPS for step in switches)


@pytest.mark.parametrize(("name", "fields"), CASES)
@settings(derandomize=True, deadline=None, max_examples=20)
@given(step=st.integers(0, MAX_STEPS - 1))
def test_the_stage_of_a_step_does_not_depend_on_what_was_asked_before(name, fields, step):
    plan, fresh = plan_of(name, fields), plan_of(name, fields)
    for other in (MAX_STEPS - 1, 0, step):
        plan.stage_at(other)
    assert plan.stage_at(step) == fresh.stage_at(step)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_planning_twice_gives_two_plans(name, fields):
    """An adaptive plan records its switches; they must not appear in the next student's plan."""
    curriculum = built(name, fields)
    context = context_of()
    first = curriculum.plan(context)
    first.switches.append(59)
    assert 59 not in curriculum.plan(context).switches


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_missing_teacher_is_an_error_that_names_the_way_out(name, fields):
    if not built(name, fields).uses_teacher:
        assert len(built(name, fields).plan(plan_context(max_steps=MAX_STEPS)).stages) == 1
        return
    with pytest.raises(ValueError, match="learns from a teacher, but none is given; pass `teacher` or use `labels`"):
        built(name, fields).plan(plan_context(max_steps=MAX_STEPS))


@pytest.mark.parametrize("name", CURRICULA.names())
def test_every_field_explains_itself(name):
    assert all(field.metadata.get("help") for field in dataclasses.fields(CURRICULA.get(name)))


@pytest.mark.parametrize("name", CURRICULA.names())
def test_a_typo_gets_a_hint(name):
    with pytest.raises(ValueError, match=r"curriculum\.temprature: unknown key. Did you mean `temperature`\?"):
        CURRICULA.build({"name": name, **BUILD[name][0], "temprature": 2}, path="curriculum")


# ---- the pace of 2410.05464's code: interval 1000, revisions at 1000, ..., 8000 and a final model ----

FINAL = "final"


def teacher_steps(asked: list[int], *revisions: int | None, speed: float = 1.0, interval: int = 1000) -> list:
    fields = {"interval": interval, "speed": speed}
    plan = built("n_shot", fields).plan(plan_context(*revisions, max_steps=12_000))
    names = [plan.stage_at(step).name for step in asked]
    return [FINAL if name == FINAL else int(name.removeprefix("step")) for name in names]


EVERY_THOUSAND = (*range(1000, 9000, 1000), None)


def test_the_teacher_is_one_interval_ahead_as_in_the_worked_example():
    steps = teacher_steps([0, 999, 1000, 7999, 9000], *EVERY_THOUSAND)
    assert steps == [1000, 1000, 2000, 8000, FINAL]


def test_speed_two_asks_for_twice_the_step():
    steps = teacher_steps([0, 999, 1000, 2000, 3000, 4000], *EVERY_THOUSAND, speed=2.0)
    assert steps == [2000, 2000, 4000, 6000, 8000, FINAL]


def test_speed_below_one_stays_on_a_revision_for_several_intervals():
    steps = teacher_steps([0, 1000, 2000, 3000, 4000], *EVERY_THOUSAND, speed=0.5)
    assert steps == [1000, 1000, 2000, 2000, 3000]


def test_a_missing_revision_falls_back_to_the_one_before():
    steps = teacher_steps([0, 1000, 2000, 3000, 4000], 1000, 2000, 5000, None)
    assert steps == [1000, 2000, 2000, 2000, 5000]


def test_before_the_first_revision_the_first_one_teaches():
    assert teacher_steps([0, 1000, 2000], 3000, 4000, None) == [3000, 3000, 3000]


def test_a_thousandfold_speed_is_one_shot():
    plan = built("n_shot", {"interval": 1000, "speed": 1000.0}).plan(plan_context(*EVERY_THOUSAND, max_steps=12_000))
    assert [stage.name for stage in plan.stages] == [FINAL]


def test_the_final_model_with_a_step_follows_the_same_pace():
    steps = teacher_steps([0, 1000, 2000, 9000], 1000, 2000, 3000)
    assert steps == [1000, 2000, FINAL, FINAL]
