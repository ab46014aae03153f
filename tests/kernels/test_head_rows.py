"""Rows in front of a head: shapes that do not fit are refused, whole logits are what a model computes."""

from __future__ import annotations

import pytest
import torch

from hf_distill.kernels import HeadRows, LogitRows

HIDDEN, WEIGHT, BIAS = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0], [3.0, 1.0]]), torch.ones(3)


def test_logits_by_hand():
    rows = HeadRows(hidden_RH=HIDDEN, weight_VH=WEIGHT, bias_V=BIAS)
    assert (rows.rows, rows.width) == (1, 3)
    assert rows.logits().tolist() == [[2.0, -1.0, 6.0]]


def test_detached_rows_follow_weights_that_move_away():
    """As they do when a teacher's weights are lent to a device for one call."""
    weight = torch.nn.Parameter(WEIGHT.clone())
    rows = HeadRows(hidden_RH=HIDDEN, weight_VH=weight, bias_V=BIAS).detached()
    weight.data = torch.zeros(3, 2)
    assert rows.logits().tolist() == [[2.0, -1.0, 6.0]]
    assert not rows.weight_VH.requires_grad


def test_the_soft_cap_comes_behind_the_scale():
    rows = HeadRows(hidden_RH=HIDDEN, weight_VH=WEIGHT, bias_V=BIAS, scale=0.5, softcap=2.0)
    expected = 2.0 * torch.tanh(torch.tensor([[1.0, -0.5, 3.0]]) / 2.0)
    torch.testing.assert_close(rows.logits(), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_RH": torch.zeros(2, 3, 2)}, r"\(2, 3, 2\) do not fit"),
        ({"hidden_RH": torch.zeros(2, 3)}, "select the rows that count"),
        ({"bias_V": torch.zeros(2)}, r"bias has shape \(2,\), expected \(3,\)"),
        ({"softcap": 0.0}, "use None for no cap"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HeadRows(**{"hidden_RH": HIDDEN, "weight_VH": WEIGHT, **fields})


def test_logits_in_memory_are_read_by_rows():
    logits_RV = torch.arange(12.0).view(4, 3)
    rows = LogitRows.of(logits_RV)
    assert (rows.rows, rows.width) == (4, 3)
    assert torch.equal(rows.read(1, 3), logits_RV[1:3]) and torch.equal(rows.logits(), logits_RV)
