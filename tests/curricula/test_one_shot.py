"""One stage for the whole run."""

from __future__ import annotations

import pytest
from builders import plan_context

from hf_distill.curricula import Labels, OneShot
from hf_distill.curricula.one_shot import final_stage


def test_labels_need_no_teacher():
    plan = Labels().plan(plan_context())
    assert not Labels().uses_teacher
    assert [stage.name for stage in plan.stages] == ["labels"]
    assert plan.stages[0].needs == {"labels"}


def test_labels_do_not_take_objectives_that_they_would_ignore():
    with pytest.raises(ValueError, match="the `labels` curriculum has no teacher and takes no `objectives`"):
        Labels(objectives=[{"name": "forward_kl"}])


def test_one_shot_learns_from_the_last_revision_only():
    plan = OneShot().plan(plan_context(10, 20, None))
    assert [(stage.name, stage.revision) for stage in plan.stages] == [("final", 2)]
    assert plan.switches == []


def test_labels_are_smoothed_where_the_trainer_says_so():
    context = plan_context()
    smoothed = Labels().plan(type(context)(head="classification", max_steps=3, label_smoothing=0.1))
    assert smoothed.stages[0].terms[0].objective.label_smoothing == 0.1


def test_the_final_stage_has_the_curriculums_terms():
    stage = final_stage(OneShot(temperature=3.0), plan_context(10))
    assert stage.terms[0].temperature(0.0) == 3.0
