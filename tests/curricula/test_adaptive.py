"""When an adaptive curriculum moves on, and that it does not before anything was learnt."""

from __future__ import annotations

import dataclasses

import pytest
from builders import plan_context

from hf_distill.curricula import Adaptive
from hf_distill.curricula.adaptive import Readiness

RULE = Readiness(metric="accuracy", level=None, saturation=False, window=3, min_gain=0.01, max_steps=None, sign=1.0)


def rule(**changes) -> Readiness:
    return dataclasses.replace(RULE, **changes)


def points(*values: float, every: int = 10, metric: str = "accuracy") -> list[dict[str, float]]:
    return [{"step": every * (index + 1), metric: value} for index, value in enumerate(values)]


def due(readiness: Readiness, *values: float, since: int = 0, metric: str = "accuracy") -> bool:
    return readiness.due(points(*values, metric=metric), since=since, step=10 * len(values))


# ---- level ----


def test_a_level_is_reached_at_equality():
    assert not due(rule(level=0.6), 0.5, 0.59)
    assert due(rule(level=0.6), 0.5, 0.6)


def test_only_the_last_evaluation_counts_for_a_level():
    assert not due(rule(level=0.6), 0.7, 0.5)


def test_a_loss_is_reached_from_above():
    falling = rule(metric="loss", level=1.0, sign=-1.0)
    assert not due(falling, 2.0, 1.1, metric="loss")
    assert due(falling, 2.0, 1.0, metric="loss")


# ---- saturation ----


def test_a_plateau_before_any_learning_is_no_saturation():
    assert not due(rule(saturation=True), 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def test_a_plateau_after_learning_is_saturation():
    assert due(rule(saturation=True), 0.5, 0.7, 0.8, 0.8, 0.8, 0.8)


def test_a_rise_is_no_saturation():
    assert not due(rule(saturation=True), 0.5, 0.6, 0.7, 0.8, 0.9)


def test_saturation_waits_until_it_can_look_back_over_its_window():
    assert not due(rule(saturation=True), 0.5, 0.8, 0.8)
    assert not due(rule(saturation=True, window=5), 0.5, 0.8, 0.8, 0.8, 0.8)
    assert due(rule(saturation=True), 0.5, 0.8, 0.8, 0.8, 0.8)


def test_learning_is_measured_since_the_last_switch():
    learnt_before = (0.5, 0.8, 0.8, 0.8, 0.8, 0.8)
    assert due(rule(saturation=True), *learnt_before, since=0)
    assert not due(rule(saturation=True), *learnt_before, since=20)


def test_a_loss_saturates_too():
    falling = rule(metric="loss", saturation=True, sign=-1.0)
    assert due(falling, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5, metric="loss")
    assert not due(falling, 2.0, 2.0, 2.0, 2.0, 2.0, metric="loss")


# ---- longest stage, missing numbers ----


def test_a_stage_ends_at_its_longest_even_without_an_evaluation():
    longest = rule(max_steps=30)
    assert not longest.due([], since=10, step=39)
    assert longest.due([], since=10, step=40)


def test_no_evaluation_is_no_reason_to_switch():
    assert not rule(level=0.1, saturation=True).due([], since=0, step=10)


def test_a_metric_that_is_not_a_number_does_not_switch():
    assert not due(rule(level=0.6, saturation=True), 0.5, 0.5, 0.5, 0.5, float("nan"))


def test_a_metric_that_is_not_evaluated_is_an_error_with_those_that_are():
    with pytest.raises(ValueError, match=r"adaptive\.metric: no held-out metric 'f1'; there are: accuracy, loss"):
        rule(metric="f1", level=0.5).due([{"step": 10, "loss": 1.0, "accuracy": 0.5}], since=0, step=10)


# ---- the curriculum ----


def test_an_adaptive_plan_has_a_stage_for_each_revision_and_no_switch_yet():
    plan = Adaptive(level=0.6).plan(plan_context(10, 20, None))
    assert [stage.name for stage in plan.stages] == ["step10", "step20", "final"]
    assert plan.switches == []
    assert plan.stage_at(99).name == "step10"


def test_the_rule_gets_what_the_recipe_says():
    curriculum = Adaptive(metric="loss", level=1.5, greater_is_better=False, window=2, min_gain=0.1, max_stage_steps=7)
    made = curriculum.plan(plan_context(10, None)).rule
    assert made == Readiness(
        metric="loss", level=1.5, saturation=False, window=2, min_gain=0.1, max_steps=7, sign=-1.0
    )


def test_recorded_switches_lead_through_the_stages():
    plan = Adaptive(level=0.6).plan(plan_context(10, 20, None))
    for step, accuracy in ((25, 0.5), (50, 0.65), (75, 0.5), (90, 0.7)):
        plan.observe([{"step": step, "accuracy": accuracy}], step)
    assert plan.switches == [50, 90]
    assert [plan.stage_at(step).name for step in (49, 50, 89, 90)] == ["step10", "step20", "step20", "final"]


def test_auto_stands_among_named_revisions():
    curriculum = Adaptive(level=0.6, revisions=["auto"])
    assert curriculum.needs_scores
    chosen = curriculum.with_chosen("step20")
    assert not chosen.needs_scores
    assert [stage.name for stage in chosen.plan(plan_context(10, 20, None)).stages] == ["step20", "final"]


def test_an_adaptive_curriculum_says_that_it_needs_evaluations():
    assert Adaptive(level=0.6).needs_evaluation


def test_a_curriculum_that_would_never_switch_is_refused():
    with pytest.raises(ValueError, match=r"say when to switch with `level`, `saturation: true` or `max_stage_steps`"):
        Adaptive()


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`window` must be at least 1, got 0"):
        Adaptive(saturation=True, window=0)
