"""Golden values of forward KL, each with where it comes from; changing one needs a sentence of reason.

None comes from our code: closed forms, arithmetic with 50 digits (mpmath 1.3), torch.distributions, and trl's released
`GKDTrainer.generalized_jsd_loss` (1.16; beta = 0 is the forward KL at two-sided temperature, without τ²).
"""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from hf_distill.objectives import ForwardKL
from hf_distill.signals import Signals

# One row of six logits each, chosen by hand: an unlikely token, a tie, a large gap.
STUDENT = [0.5, -1.25, 2.0, 2.0, -7.5, 0.0]
TEACHER = [3.0, -0.5, 1.0, 2.5, -12.0, 0.25]
# τ -> (KL(teacher/τ ‖ student), τ²·KL(teacher/τ ‖ student/τ)): `exact` below, 17 digits.
GOLDEN = {
    0.5: (1.2925620716121409, 0.55794685853022363),
    1.0: (0.7409318221037139, 0.74093182210371389),
    2.0: (0.45625638553143821, 0.78125653357201152),
    4.0: (0.47780986353216074, 0.86531993308971533),
}


def ours(temperature: float, where: str = "teacher", dtype: torch.dtype = torch.float64) -> float:
    student, teacher = (torch.tensor([logits], dtype=dtype) for logits in (STUDENT, TEACHER))
    signals = Signals(student_logits=student, teacher_logits=teacher)
    return ForwardKL(temperature_on=where).values(signals, temperature=temperature).item()


def exact(teacher_temperature: float, student_temperature: float) -> float:
    """The definition, Σ p (log p − log q) over normalised exponentials, in 50 digits."""
    with mpmath.workdps(50):
        weights = (
            [mpmath.exp(mpmath.mpf(logit) / tau) for logit in logits]
            for logits, tau in ((TEACHER, teacher_temperature), (STUDENT, student_temperature))
        )
        p, q = ([weight / mpmath.fsum(row) for weight in row] for row in weights)
        return float(mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True)))


@pytest.mark.parametrize("temperature", GOLDEN)
def test_the_golden_values_are_the_definition(temperature):
    expected = (exact(temperature, 1.0), temperature**2 * exact(temperature, temperature))
    assert GOLDEN[temperature] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("temperature", GOLDEN)
def test_forward_kl_has_its_golden_values(temperature):
    assert (ours(temperature), ours(temperature, "both")) == pytest.approx(GOLDEN[temperature], rel=1e-13)


@pytest.mark.parametrize("temperature", GOLDEN)
def test_float32_has_them_to_six_digits(temperature):
    values = ours(temperature, dtype=torch.float32), ours(temperature, "both", torch.float32)
    assert values == pytest.approx(GOLDEN[temperature], rel=2e-6)


@pytest.mark.parametrize("temperature", GOLDEN)
def test_a_second_derivation_agrees(temperature):
    """torch.distributions sums t · (log t − log s) over probabilities it normalised itself."""
    distributions = torch.distributions
    student, teacher = (torch.tensor(logits, dtype=torch.float64) for logits in (STUDENT, TEACHER))
    divergence = distributions.kl_divergence(
        distributions.Categorical(logits=teacher / temperature), distributions.Categorical(logits=student)
    )
    assert ours(temperature) == pytest.approx(divergence.item(), rel=1e-13)


@pytest.mark.parametrize("temperature", GOLDEN)
def test_trls_released_function_agrees_at_two_sided_temperature(temperature):
    gkd = pytest.importorskip("trl.experimental.gkd", reason="the oracle trl is not installed")
    student, teacher = (torch.tensor([[logits]], dtype=torch.float64) for logits in (STUDENT, TEACHER))
    oracle = gkd.GKDTrainer.generalized_jsd_loss(student, teacher, beta=0, temperature=temperature, reduction="sum")
    assert ours(temperature, "both") == pytest.approx(temperature**2 * oracle.item(), rel=1e-13)


def test_two_coins_have_their_closed_form():
    """KL(3/4 ‖ 1/2) = 3/4 log 3/2 + 1/4 log 1/2 = log 2 − H(1/4) = 0.13081203594113697 nats."""
    signals = Signals(
        student_logits=torch.zeros(1, 2, dtype=torch.float64),
        teacher_logits=torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64),
    )
    value = ForwardKL().values(signals, temperature=1.0).item()
    assert value == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-14)
    assert value == pytest.approx(0.13081203594113697, rel=1e-14)


@pytest.mark.parametrize("classes", [2, 10, 50_257])
def test_a_certain_teacher_costs_an_ignorant_student_the_logarithm_of_the_classes(classes):
    signals = Signals(
        student_logits=torch.zeros(1, classes, dtype=torch.float64),
        teacher_logits=torch.zeros(1, classes, dtype=torch.float64).index_fill_(1, torch.tensor([1]), 200.0),
    )
    for temperature in (0.0, 1.0):
        value = ForwardKL().values(signals, temperature=temperature).item()
        assert value == pytest.approx(math.log(classes), rel=1e-12)
