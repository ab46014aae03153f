from __future__ import annotations

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from logit_cases import RELATIVE, gradient_of, logit_pair, passes_gradcheck, values_of

from hf_distill.objectives import ForwardKL, LogitMSE


def test_values_equal_the_definition_with_40_digits() -> None:
    student, teacher = logit_pair()
    with mpmath.workdps(40):
        sums = [
            mpmath.fsum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(z_s, z_t, strict=True))
            for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True)
        ]
    values = values_of(LogitMSE(over_classes="sum"), student, teacher)
    assert values.tolist() == pytest.approx([float(total) for total in sums], rel=RELATIVE)


def test_the_mean_is_torchs() -> None:
    student, teacher = logit_pair()
    expected = F.mse_loss(student, teacher, reduction="none").mean(-1)
    torch.testing.assert_close(values_of(LogitMSE(), student, teacher), expected)


def test_the_sum_is_the_mean_times_the_number_of_classes() -> None:
    student, teacher = logit_pair(classes=7)
    total, mean = (values_of(LogitMSE(over_classes=over), student, teacher) for over in ("sum", "mean"))
    torch.testing.assert_close(total, 7 * mean)


def test_a_high_temperature_kl_becomes_half_the_mean_square_of_centred_logits() -> None:
    student, teacher = logit_pair(scale=1.0)
    student, teacher = (logits - logits.mean(-1, keepdim=True) for logits in (student, teacher))
    softened = values_of(ForwardKL(temperature_on="both"), student, teacher, temperature=1e4)
    torch.testing.assert_close(softened, values_of(LogitMSE(), student, teacher) / 2, rtol=1e-3, atol=0.0)


def test_a_shift_of_all_logits_counts_unlike_in_a_divergence() -> None:
    _, teacher = logit_pair()
    torch.testing.assert_close(values_of(LogitMSE(), teacher + 3.0, teacher), torch.full((4,), 9.0).double())


def test_the_temperature_does_not_apply() -> None:
    student, teacher = logit_pair()
    assert torch.equal(
        values_of(LogitMSE(), student, teacher, temperature=1e-4), values_of(LogitMSE(), student, teacher)
    )


@pytest.mark.parametrize("over_classes", ["mean", "sum"])
def test_the_gradient_is_that_of_the_value(over_classes: str) -> None:
    assert passes_gradcheck(LogitMSE(over_classes=over_classes))


def test_a_class_that_both_rule_out_makes_no_nan() -> None:
    student, teacher = torch.tensor([[1.0, -math.inf]]), torch.tensor([[3.0, -math.inf]])
    assert values_of(LogitMSE(over_classes="sum"), student, teacher).tolist() == [4.0]
    assert gradient_of(LogitMSE(over_classes="sum"), student, teacher).tolist() == [[-4.0, 0.0]]


def test_the_formula_tells_the_reductions_apart() -> None:
    assert LogitMSE().formula() != LogitMSE(over_classes="sum").formula()
