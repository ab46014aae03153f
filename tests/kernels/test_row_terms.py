"""Terms that can be computed a few rows at a time, and those that cannot."""

from __future__ import annotations

import pytest

from hf_distill.kernels import RowTerm, is_row_wise
from hf_distill.kernels.row_terms import View
from hf_distill.objectives import CKD, OBJECTIVES, CrossEntropy, ForwardKL, LogitMSE, ReverseKL

ROW_WISE = {
    "cross_entropy", "forward_kl", "reverse_kl", "symmetric_kl", "generalized_jsd", "skew_kl", "skew_reverse_kl",
    "total_variation", "top_k_kl", "decoupled_kd", "logit_mse", "margin_mse", "logit_cosine", "soft_rank_correlation",
    "x_divergence",
}  # fmt: skip


def test_no_objective_that_compares_rows_is_taken_for_one_that_does_not():
    without_fields = {"uncertainty_split"}  # whether it compares rows depends on its fields
    found = {name for name in OBJECTIVES.names() if is_row_wise(OBJECTIVES.build({"name": name}, path="objective"))}
    assert found - without_fields == ROW_WISE


def test_what_compares_rows_is_refused():
    with pytest.raises(ValueError, match="CKD is not a function of one row's logits"):
        RowTerm(objective=CKD())


def test_a_temperature_without_a_limit_is_refused_in_the_objectives_words():
    with pytest.raises(ValueError, match="use forward_kl, which learns from the teacher's arg-max"):
        RowTerm(objective=ReverseKL(), temperature=0.0)
    with pytest.raises(ValueError, match="the factor τ² removes the gradient"):
        RowTerm(objective=ForwardKL(temperature_on="both"), temperature=1e-4)
    assert RowTerm(objective=ForwardKL(), temperature=0.0).teacher_view(5) == View(0.0, 5)


def test_what_a_term_reads():
    one_sided = RowTerm(objective=ForwardKL(), temperature=2.0)
    both = RowTerm(objective=ForwardKL(temperature_on="both"), temperature=2.0)
    labels = RowTerm(objective=CrossEntropy(), temperature=2.0)
    assert one_sided.student_view(7, 9) == View(1.0, 7) and one_sided.teacher_view(7) == View(2.0, 7)
    assert both.student_view(7, 9) == View(2.0, 7) and both.teacher_view(7) == View(2.0, 7)
    assert labels.student_view(7, 9) == View(1.0, 9) and labels.teacher_view(7) is None
    assert (one_sided.value_factor, one_sided.gradient_factor) == (1.0, 1.0)
    assert (both.value_factor, both.gradient_factor) == (4.0, 2.0)


def test_which_gradients_are_written_out():
    assert RowTerm(objective=ForwardKL()).closed and not RowTerm(objective=LogitMSE()).closed
    assert not RowTerm(objective=CrossEntropy()).needs_teacher and RowTerm(objective=CrossEntropy()).needs_labels
