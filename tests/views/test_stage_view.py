"""A view fits its heads, and picks only where there are probabilities."""

from __future__ import annotations

import pytest
from view_cases import view_of

from hf_distill.views import StageView
from hf_distill.views.stage_view import Pick


def test_an_image_view_does_not_fit_a_language_model():
    with pytest.raises(ValueError, match="'mix' does not fit a causal_lm head; it fits classification, regression"):
        StageView(name="mix", view=view_of("mixup")).check_head("causal_lm")


def test_a_regression_head_does_not_pick_by_entropy():
    view = view_of("mixup")
    StageView(name="mixup", view=view).check_head("regression")
    with pytest.raises(ValueError, match="`pick` goes by probabilities, which a regression head does not give"):
        StageView(name="mixup", view=view, pick=Pick()).check_head("regression")


def test_no_pool_is_refused():
    with pytest.raises(ValueError, match="pick: `pools` must be at least 1, got 0"):
        Pick(pools=0)
    assert Pick() == Pick(pools=2, by="student_entropy"), "the published setting"
