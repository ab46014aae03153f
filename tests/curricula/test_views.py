"""The `views` of a curriculum: what is refused, and which terms a stage gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import plan_context

from hf_distill.curricula import CURRICULA
from hf_distill.curricula.views import build_views, extend
from hf_distill.views import Mixup
from hf_distill.views.stage_view import Pick

MIXUP = {"name": "mixup", "alpha": 0.4}


def curriculum_of(views, name="one_shot", **fields):
    return CURRICULA.build({"name": name, "views": views, **fields}, path="curriculum")


def stage_of(views, head="classification", place=-1, **fields):
    curriculum = curriculum_of(views, **fields)
    return extend(curriculum.plan(plan_context(10, 20, None, head=head)).stages[place], build_views(curriculum, head))


def test_fields_reach_the_view():
    pick = {"pools": 3, "by": "kl"}
    spec = {**MIXUP, "weight": {"name": "linear", "start": 0.0, "stop": 2.0}, "pick": pick, "label": "mix"}
    (view,) = build_views(curriculum_of(spec), "classification")
    assert (view.name, view.view, view.pick) == ("mix", Mixup(alpha=0.4), Pick(pools=3, by="kl"))
    assert view.weight(0.5) == 1.0
    assert build_views(curriculum_of(None), "classification") == ()
    (plain,) = build_views(curriculum_of(MIXUP), "classification")
    assert (plain.name, plain.weight(0.7), plain.pick.pools) == ("mixup", 1.0, 1)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({"name": "mixip"}, r"Unknown view 'mixip'\. Did you mean 'mixup'"),
        ({"alpha": 1.0}, r"curriculum\.views: a view needs a `name`"),
        ({**MIXUP, "alpa": 1.0}, r"curriculum\.views\.alpa: unknown key\. Did you mean `alpha`"),
        ([MIXUP, {"name": "cutout", "size": 0}], r"curriculum\.views\[1\]: cutout: `size` must be at least 1"),
        ({**MIXUP, "pick": {"pols": 2}}, r"curriculum\.views\.pick\.pols: unknown key\. Did you mean `pools`"),
        ({**MIXUP, "pick": {"by": "loss"}}, r"curriculum\.views\.pick\.by: expected 'student_entropy' or"),
        ({**MIXUP, "weight": -1.0}, r"curriculum\.views\.weight: must stay within \[0, inf\]"),
        ({**MIXUP, "weight": {"name": "linear", "start": 1.0, "stop": -1.0}}, "must stay within"),
        ([MIXUP, MIXUP], r"\['mixup'\] appear twice; give one of them a `label`"),
        ({"name": "token_cutmix", "alpha": 0.0}, "`alpha` must be positive"),
    ],
)
def test_an_impossible_block_is_refused(views, message):
    with pytest.raises(ValueError, match=message):
        build_views(curriculum_of(views), "classification")


def test_a_head_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'mixup' does not fit a masked_lm head; it fits classification, regression"):
        build_views(curriculum_of(MIXUP), "masked_lm")


def test_labels_have_no_views():
    with pytest.raises(
        ValueError, match=r"on a view the teacher says what to learn, and this curriculum has none; us"
    ):
        build_views(curriculum_of(MIXUP, name="labels"), "classification")


def test_labels_are_not_asked_for_on_a_view():
    spec = [{**MIXUP, "weight": 0.5}, {"name": "cutout"}]
    stage = stage_of(spec, label_mix=0.1, objectives=[{"name": "forward_kl"}, {"name": "logit_mse", "weight": 3.0}])
    weights = {term.key: round(term.weight_at(0.3), 9) for term in stage.terms}
    assert weights == {
        "forward_kl": 0.9,
        "logit_mse": 2.7,
        "labels": 0.1,
        "forward_kl@mixup": 0.45,
        "logit_mse@mixup": 1.35,
        "forward_kl@cutout": 0.9,
        "logit_mse@cutout": 2.7,
    }
    assert "teacher.live" in stage.needs


def test_people_read_where_a_term_compares():
    stage = stage_of({**MIXUP, "weight": 0.5, "label": "mix"}, label_mix=0.1, temperature=4.0)
    clean, _, mixed = (term.formula() for term in stage.terms)
    assert mixed == clean.replace("(1−0.1)·", "(1−0.1)·(0.5)·") + " @mix"


def test_objectives_that_need_labels_go_by_those_of_the_clean_input():
    with pytest.raises(ValueError, match=r"\['dkd'\] of the stage 'final' compare with labels too.*go by the teacher"):
        stage_of(MIXUP, objectives=[{"name": "decoupled_kd", "label": "dkd"}])
    alone = stage_of(None, objectives=[{"name": "decoupled_kd"}])
    assert [term.key for term in alone.terms] == ["decoupled_kd"]


def test_the_label_phase_of_annealing_gets_no_teacher():
    first, last = (stage_of(MIXUP, name="annealing", place=place) for place in (0, -1))
    assert [term.key for term in first.terms] == ["margin_mse", "margin_mse@mixup"]
    assert [term.key for term in last.terms] == ["labels"]


def test_stages_of_hidden_layers_get_no_views():
    curriculum = curriculum_of(MIXUP, name="extraction", steps=5, layers=[[1, 2]])
    context = plan_context(10, 20, None)
    stages = curriculum.plan(replace(context, student_layers=2, teacher_layers=4)).stages
    views = build_views(curriculum, "classification")
    assert [[term.key for term in extend(stage, views).terms] for stage in stages] == [
        ["hidden_mse"],
        ["forward_kl", "forward_kl@mixup"],
    ]
