"""A student's papers are those of what it was trained with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import plan_context

from hf_distill.curricula import CURRICULA
from hf_distill.curricula.papers import papers_of
from hf_distill.curricula.views import build_views, extend


@pytest.mark.parametrize(
    ("spec", "papers"),
    [
        ({"name": "labels"}, []),
        ({"name": "one_shot"}, ["1503.02531"]),
        ({"name": "n_shot", "interval": 10}, ["2410.05464", "1503.02531"]),
        ({"name": "extraction"}, ["2503.17494", "1503.02531"]),
        ({"name": "annealing"}, ["2104.07163", "2212.05998"]),
        ({"name": "continuation"}, ["2212.05998", "2104.07163"]),
        ({"name": "labels", "intra": {"passes": 3}}, ["2205.11416"]),
        ({"name": "labels", "intra": {"passes": 2, "convention": "r_drop"}}, ["2106.14448"]),
        (
            {"name": "one_shot", "objectives": [{"name": "skew_kl"}, {"name": "hidden_mse", "layers": "last"}]},
            ["2402.03898", "1412.6550", "1909.10351"],
        ),
    ],
)
def test_curriculum_passes_and_objectives_are_named_in_this_order(spec, papers):
    curriculum = CURRICULA.build(spec, path="curriculum")
    context = replace(plan_context(10, 20, max_steps=100), student_layers=2, teacher_layers=2)
    assert papers_of(curriculum, curriculum.plan(context)) == papers


def test_views_come_last():
    curriculum = CURRICULA.build({"name": "one_shot", "views": {"name": "cutout"}}, path="curriculum")
    plan = curriculum.plan(plan_context(10, max_steps=100))
    plan.stages = tuple(extend(stage, build_views(curriculum, "classification")) for stage in plan.stages)
    assert papers_of(curriculum, plan) == ["1503.02531", "1708.04552", "2012.02909"]
