"""A head's products in tiles: types, scale, cap, and gradients that are added up in a type wide enough."""

from __future__ import annotations

import pytest
import torch

from hf_distill.kernels import HeadRows
from hf_distill.kernels.projection import HeadGradients, Projection, at_least_float32, matmul_dtype


def head(dtype: torch.dtype = torch.float32, **fields) -> HeadRows:
    generator = torch.Generator().manual_seed(0)
    hidden_RH, weight_VH = (torch.randn(rows, 3, generator=generator).to(dtype) for rows in (6, 5))
    return HeadRows(hidden_RH=hidden_RH, weight_VH=weight_VH, **fields)


def test_types_are_those_of_the_products_in_the_dense_path():
    single, half, double = torch.ones(1), torch.ones(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.float64)
    assert matmul_dtype(single, single) == torch.float32
    assert matmul_dtype(half, single) == torch.float32
    with torch.autocast("cpu", dtype=torch.float16):
        assert matmul_dtype(single, single) == torch.float16
        assert matmul_dtype(double, double) == torch.float64
    assert at_least_float32(torch.float16) == torch.float32
    assert at_least_float32(torch.float64) == torch.float64


@pytest.mark.parametrize("fields", [{}, {"bias_V": torch.ones(5)}, {"scale": 2.0}, {"scale": 2.0, "softcap": 1.5}])
def test_tiles_are_rows_of_the_logits(fields):
    rows = head(**fields)
    projection, out_rW = Projection(rows, 4), torch.empty(3, 4)
    projection.write(2, 5, out_rW)
    projection.finish_(out_rW)
    torch.testing.assert_close(out_rW, rows.logits()[2:5, :4])


def test_the_cap_passes_less_gradient_the_nearer_the_logits_are_to_it():
    projection = Projection(head(softcap=2.0), 5)
    capped, gradient = torch.tensor([[0.0, 1.0, 2.0]]), torch.ones(1, 3)
    projection.undo_softcap_(gradient, capped)
    assert gradient.tolist() == [[1.0, 0.75, 0.0]]


def test_a_bias_of_minus_infinity_becomes_finite():
    bias_V = torch.tensor([0.0, -torch.inf, 0.0, 0.0, 0.0])
    projection, out_rW = Projection(head(bias_V=bias_V), 5), torch.empty(6, 5)
    projection.write(0, 6, out_rW)
    assert torch.isfinite(out_rW).all()
    assert not out_rW.softmax(-1)[:, 1].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("row_scale", [None, torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0, 0.125])], ids=["even", "by row"])
def test_gradients_of_tiles_add_up_to_those_of_the_whole(dtype, row_scale):
    rows = head(dtype, bias_V=torch.zeros(5, dtype=dtype))
    gradient_RV = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    sums = HeadGradients(Projection(rows, 5), rows, (True, True, True), row_scale)
    sums.add(0, 4, gradient_RV[:4])
    sums.add(4, 6, gradient_RV[4:])
    scaled_RV = gradient_RV.double() * (1.0 if row_scale is None else row_scale[:, None])
    expected = (scaled_RV @ rows.weight_VH.double(), scaled_RV.T @ rows.hidden_RH.double(), scaled_RV.sum(0))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 0.03}[dtype]
    for found, wanted in zip(sums.tensors(), expected, strict=True):
        assert found is not None and found.dtype == at_least_float32(dtype)
        torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


def test_ids_that_are_not_in_use_get_a_gradient_of_zero():
    rows = head(bias_V=torch.zeros(5))
    sums = HeadGradients(Projection(rows, 3), rows, (True, True, True), None)
    sums.add(0, 6, torch.ones(6, 3))
    assert sums.weight_VH is not None and sums.bias_V is not None
    assert not sums.weight_VH[3:].any() and sums.weight_VH[:3].any()
    assert sums.bias_V.tolist() == [6.0, 6.0, 6.0, 0.0, 0.0]


def test_nothing_is_kept_for_what_needs_no_gradient():
    rows = head(bias_V=torch.zeros(5))
    sums = HeadGradients(Projection(rows, 5), rows, (False, False, False), None)
    sums.add(0, 6, torch.ones(6, 5))
    assert sums.tensors() == (None, None, None)
