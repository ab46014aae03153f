"""The margin hinge of Continuation-KD: its value by hand, and no gradient inside the margin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_distill.objectives import MarginMSE
from hf_distill.reading.signals import Signals

STUDENT = [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, 4.0, 0.5]]
TEACHER = [[1.0, 2.5, 3.0], [4.0, -4.0, 2.0], [2.0, 8.0, 2.0]]


def values_of(objective: MarginMSE, temperature: float, student=None) -> torch.Tensor:
    student = torch.tensor(STUDENT, dtype=torch.float64) if student is None else student
    signals = Signals(student_logits=student, teacher_logits=torch.tensor(TEACHER, dtype=torch.float64))
    return objective.values(signals, temperature=temperature)


@pytest.mark.parametrize("over_classes", ["mean", "sum"])
@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("phi", [0.1, 0.5, 1.0])
def test_the_hinge_is_that_of_the_definition(phi, margin, over_classes):
    squares = (np.array(STUDENT) - phi * np.array(TEACHER)) ** 2
    distance = squares.mean(-1) if over_classes == "mean" else squares.sum(-1)
    expected = np.maximum(0.0, distance - margin * phi)
    found = values_of(MarginMSE(margin=margin, over_classes=over_classes), 1.0 / phi)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_the_margin_shrinks_with_the_teacher():
    """At φ = 1 the margin is m, at φ = 0.5 half of it; the first row lies 0.25 / 3 from the teacher at φ = 1."""
    inside, outside = 0.25 / 3 + 1e-9, 0.25 / 3 - 1e-6
    assert values_of(MarginMSE(margin=inside), 1.0)[0] == 0.0
    assert values_of(MarginMSE(margin=outside), 1.0)[0].item() == pytest.approx(1e-6, rel=1e-6)
    at_half = torch.tensor(TEACHER, dtype=torch.float64) * 0.5 + 0.1
    assert values_of(MarginMSE(margin=0.021), 2.0, at_half).max() == 0.0
    assert values_of(MarginMSE(margin=0.019), 2.0, at_half).min() > 0.0


def test_the_gradient_inside_the_margin_is_zero():
    student = torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True)
    values = values_of(MarginMSE(margin=1.0), 1.0, student)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert (values > 0).tolist() == [False, True, True]
    assert (gradient[0] == 0).all()
    expected = 2.0 * (student - torch.tensor(TEACHER, dtype=torch.float64)) / 3.0
    torch.testing.assert_close(gradient[1:], expected.detach()[1:], rtol=1e-12, atol=0.0)


def test_the_hinge_is_on_each_row_instead_of_the_mean_of_the_batch():
    far, near = (
        values_of(MarginMSE(margin=2.0), 1.0)[1:].mean().item(),
        values_of(MarginMSE(margin=2.0), 1.0)[0].item(),
    )
    assert near == 0.0
    assert far > 0.0


def test_margin_zero_is_the_plain_squared_error():
    found = values_of(MarginMSE(), 1.0)
    plain = torch.nn.functional.mse_loss(
        torch.tensor(STUDENT, dtype=torch.float64), torch.tensor(TEACHER, dtype=torch.float64), reduction="none"
    ).mean(-1)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=0.0)


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match="`margin` must be ≥ 0, got -1"):
        MarginMSE(margin=-1.0)


def test_the_formula_shows_the_margin():
    assert MarginMSE().formula() == "‖student − teacher/τ‖²"
    assert MarginMSE(margin=0.5).formula() == "max(0, ‖student − teacher/τ‖² − 0.5/τ)"
