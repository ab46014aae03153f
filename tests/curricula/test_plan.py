"""Which stage a step belongs to, and the only state a curriculum has."""

from __future__ import annotations

import pytest

from hf_distill.curricula import Plan, Stage, Term
from hf_distill.objectives import CrossEntropy, ForwardKL
from hf_distill.schedules import Constant, Linear


def stages(*revisions: int | None) -> tuple[Stage, ...]:
    return tuple(Stage(name=str(revision), terms=(), revision=revision) for revision in revisions)


class EveryTime:
    """A rule that always wants to move on, and writes down what it was asked."""

    metric = "accuracy"

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def due(self, history, *, since: int, step: int) -> bool:
        self.asked.append((since, step))
        return True


@pytest.mark.parametrize(("step", "index"), [(0, 0), (4, 0), (5, 1), (8, 1), (9, 2), (1000, 2)])
def test_a_switch_is_the_first_step_of_the_next_stage(step, index):
    assert Plan(stages=stages(0, 1, 2), switches=[5, 9]).index_at(step) == index


def test_stages_start_where_the_ones_before_end():
    plan = Plan(stages=stages(0, 1, 2), switches=[5, 9])
    assert [plan.start_of(index) for index in range(3)] == [0, 5, 9]
    assert Plan(stages=stages(0, 1), rule=EveryTime()).start_of(1) is None


def test_only_another_revision_is_read_ahead():
    plan = Plan(stages=stages(0, 0, 2), switches=[5, 9])
    assert [plan.next_revision(step) for step in (0, 5, 9)] == [None, 2, None]


@pytest.mark.parametrize("switches", [[], [3, 4]])
def test_a_fixed_plan_knows_all_its_switches(switches):
    with pytest.raises(ValueError, match="2 stages need 1 switches"):
        Plan(stages=stages(0, 1), switches=switches)


def test_a_plan_without_stages_is_refused():
    with pytest.raises(ValueError, match="at least one stage"):
        Plan(stages=())


def test_a_fixed_plan_does_not_move_its_switches():
    plan = Plan(stages=stages(0, 1), switches=[5])
    assert not plan.observe([{"step": 7, "accuracy": 1.0}], 7)
    assert plan.switches == [5]


def test_an_adaptive_plan_records_each_switch_once_and_ends_at_the_last_stage():
    rule = EveryTime()
    plan = Plan(stages=stages(0, 1, 2), rule=rule)
    moved = [plan.observe([], step) for step in (4, 4, 8, 12)]
    assert moved == [True, False, True, False]
    assert plan.switches == [4, 8]
    assert rule.asked == [(0, 4), (4, 8)]


def test_nothing_switches_before_the_first_step():
    plan = Plan(stages=stages(0, 1), rule=EveryTime())
    assert not plan.observe([], 0)
    assert plan.switches == []


def test_a_recorded_plan_resumes_where_it_was():
    plan = Plan(stages=stages(0, 1, 2), rule=EveryTime(), switches=[4])
    assert plan.stage_at(6).revision == 1


def test_two_plans_share_no_switches():
    one, other = (Plan(stages=stages(0, 1), rule=EveryTime()) for _ in range(2))
    one.observe([], 3)
    assert other.switches == []


def test_a_stage_needs_what_its_terms_need():
    terms = (
        Term(name="a", objective=ForwardKL(), weight=Constant(level=1.0)),
        Term(name="b", objective=CrossEntropy(), weight=Constant(level=1.0)),
    )
    assert Stage(name="x", terms=terms).needs == {"labels", "teacher.logits"}


@pytest.mark.parametrize(
    ("term", "formula"),
    [
        (Term(name="a", objective=CrossEntropy(), weight=Constant(level=1.0)), "CE(labels)"),
        (Term(name="a", objective=CrossEntropy(), weight=Constant(level=0.5)), "(0.5)·CE(labels)"),
        (
            Term(name="a", objective=ForwardKL(), weight=Constant(level=1.0), temperature=Constant(level=2.0)),
            "KL(teacher/τ ‖ student) [τ=2]",
        ),
        (
            Term(
                name="a",
                objective=ForwardKL(),
                weight=Constant(level=1.0),
                label_mix=Linear(start=0.0, stop=0.5),
            ),
            "(1−linear 0→0.5)·KL(teacher/τ ‖ student) [τ=1]",
        ),
        (
            Term(name="a", objective=CrossEntropy(), weight=Constant(level=1.0), label_mix=Constant(level=0.3)),
            "(0.3)·CE(labels)",
        ),
    ],
)
def test_reports_show_the_whole_formula_of_a_term(term, formula):
    assert term.formula() == formula


def test_resuming_with_another_length_of_the_run_is_refused_where_a_past_switch_would_move():
    stages = (Stage(name="a", terms=()), Stage(name="b", terms=()))
    Plan(stages=stages, switches=[8]).resume([8], 10)
    Plan(stages=stages, switches=[12]).resume([8], 5)
    with pytest.raises(ValueError, match=r"changed stages at \[2\] up to step 5.*no step.*max_steps"):
        Plan(stages=stages, switches=[8]).resume([2], 5)
