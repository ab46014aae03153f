"""The pass over the tiles: what is kept for the backward, and types that differ between the models."""

from __future__ import annotations

import pytest
import torch
from head_cases import distance, head_case

from hf_distill.kernels import HeadRows, LogitRows, RowTerm, dense_loss, tiled_loss
from hf_distill.kernels.tile_run import Job, TileRun
from hf_distill.objectives import CrossEntropy, ForwardKL


def run(needed: tuple[bool, bool, bool], *, scale: torch.Tensor | None = None, weight: float = 1.0):
    case = head_case()
    terms = [RowTerm(objective=ForwardKL(), weight=weight)]
    job = Job(case.student, terms, case.teacher, None, case.scale if scale is None else scale, None, 500, 1)
    return case, terms, TileRun(job, needed).done()


def test_gradients_are_those_of_the_loss_once_multiplied_by_the_factor():
    case, terms, done = run((True, True, True), weight=-0.25)
    expected = case.everything(dense_loss, terms)
    assert distance(done.loss, expected[0]) < 1e-12
    for found, wanted in zip(done.gradients, expected[2:], strict=True):
        assert found is not None
        assert distance(found * done.factor, wanted) < 1e-12


def test_one_scale_for_all_rows_stays_out_of_the_products():
    _, _, done = run((True, True, True), scale=torch.tensor(1e-30, dtype=torch.float64))
    assert float(done.factor) == pytest.approx(1e-30)
    assert all(gradient is not None and gradient.abs().max() > 1e-3 for gradient in done.gradients)


def test_rows_that_all_have_the_scale_zero_give_zero_not_nan():
    _, _, done = run((True, True, True), scale=torch.zeros(7, dtype=torch.float64))
    assert done.loss == 0.0
    assert all(not (gradient * done.factor).any() for gradient in done.gradients if gradient is not None)


def test_nothing_is_kept_where_no_gradient_is_needed():
    assert run((False, False, False))[2].gradients == (None, None, None)
    kept = run((True, False, False))[2].gradients
    assert kept[0] is not None and kept[1:] == (None, None)


@pytest.mark.parametrize("teacher_dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("given", [False, True], ids=["head", "logits"])
def test_a_teacher_in_another_type_is_compared_in_float32_at_least(teacher_dtype, given):
    case = head_case(dtype=torch.float32)
    assert isinstance(case.teacher, HeadRows)
    teacher = HeadRows(
        hidden_RH=case.teacher.hidden_RH.to(teacher_dtype), weight_VH=case.teacher.weight_VH.to(teacher_dtype)
    )
    changed = case._replace(teacher=LogitRows.of(teacher.logits()) if given else teacher)
    terms = [RowTerm(objective=ForwardKL()), RowTerm(objective=CrossEntropy())]
    tiled = changed.loss(tiled_loss, terms, budget_bytes=400)
    dense = changed.loss(dense_loss, terms)
    assert distance(tiled.values_KR, dense.values_KR) < 1e-6
    gradients = [torch.autograd.grad(made.loss, case.leaves) for made in (tiled, dense)]
    assert max(distance(*pair) for pair in zip(*gradients, strict=True)) < 1e-6


def test_a_teachers_tile_that_is_lower_than_the_students_meets_the_right_rows():
    case, terms = head_case(300), [RowTerm(objective=ForwardKL()), RowTerm(objective=CrossEntropy(), weight=0.5)]
    row = 23 * 8
    tiled = case.everything(tiled_loss, terms, budget_bytes=row * (160 + 128))
    for found, wanted in zip(tiled, case.everything(dense_loss, terms), strict=True):
        assert distance(found, wanted) < 1e-12
