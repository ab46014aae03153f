from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logit_cases import (
    RELATIVE,
    entropy,
    gradient_of,
    kl,
    logit_lists,
    logit_pair,
    logits_of,
    mixture,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)

from hf_distill.objectives import ForwardKL, GeneralizedJSD, ReverseKL

INSIDE = [0.001, 0.1, 0.5, 0.9, 0.999]


@pytest.mark.parametrize("beta", INSIDE)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_the_definition_with_40_digits(beta: float, temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p, q = softmax(z_t, temperature), softmax(z_s)
        m = mixture(p, q, beta)
        expected.append(float(beta * kl(p, m) + (1 - beta) * kl(q, m)))
    values = values_of(GeneralizedJSD(beta=beta), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("beta", INSIDE[1:-1])
def test_values_equal_the_entropy_that_mixing_adds(beta: float) -> None:
    student, teacher = logit_pair(seed=1)
    expected = []
    for p, q in zip(teacher.softmax(-1), student.softmax(-1), strict=True):
        m = beta * p + (1 - beta) * q
        expected.append(entropy(m.tolist()) - beta * entropy(p.tolist()) - (1 - beta) * entropy(q.tolist()))
    assert values_of(GeneralizedJSD(beta=beta), student, teacher).tolist() == pytest.approx(expected, rel=RELATIVE)


def test_the_plain_divergence_is_scipys() -> None:
    from scipy.spatial.distance import jensenshannon

    student, teacher = logit_pair()
    distance = jensenshannon(teacher.softmax(-1).numpy(), student.softmax(-1).numpy(), axis=1)
    assert values_of(GeneralizedJSD(), student, teacher).tolist() == pytest.approx(distance**2, rel=RELATIVE)


def test_the_ends_are_forward_and_reverse_not_the_other_way_round() -> None:
    student, teacher = logit_pair()
    assert torch.equal(values_of(GeneralizedJSD(beta=0.0), student, teacher), values_of(ForwardKL(), student, teacher))
    assert torch.equal(values_of(GeneralizedJSD(beta=1.0), student, teacher), values_of(ReverseKL(), student, teacher))


def test_the_inside_vanishes_at_the_ends_and_its_slopes_are_the_two_kls() -> None:
    student, teacher = logit_pair()
    low, high = (values_of(GeneralizedJSD(beta=beta), student, teacher) for beta in (1e-7, 1 - 1e-7))
    assert low.max() < 1e-5 and high.max() < 1e-5
    torch.testing.assert_close(low / 1e-7, values_of(ForwardKL(), student, teacher), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(high / 1e-7, values_of(ReverseKL(), student, teacher), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("beta", [0.0, *INSIDE, 1.0])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_is_that_of_the_value_though_the_mixture_has_no_graph(beta: float, side: str) -> None:
    assert passes_gradcheck(GeneralizedJSD(beta=beta, temperature_on=side), temperature=1.7)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_teacher_and_student_with_nothing_in_common_reach_the_bound(beta: float) -> None:
    apart = values_of(GeneralizedJSD(beta=beta), logits_of([1.0, 0.0]), logits_of([0.0, 1.0]))
    assert apart.item() == pytest.approx(entropy([beta, 1 - beta]), rel=1e-12)
    assert gradient_of(GeneralizedJSD(beta=beta), logits_of([1.0, 0.0]), logits_of([0.0, 1.0])).isfinite().all()


@given(logit_lists(4, largest=200.0), logit_lists(4, largest=200.0), st.floats(0.01, 0.99))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_is_bounded_and_its_mirror_swaps_the_roles(student: list[float], teacher: list[float], beta: float) -> None:
    z_s, z_t = row_of(student), row_of(teacher)
    value = values_of(GeneralizedJSD(beta=beta), z_s, z_t)
    assert -1e-12 <= value.item() <= entropy([beta, 1 - beta]) + 1e-12
    mirrored = values_of(GeneralizedJSD(beta=1 - beta), z_t, z_s)
    torch.testing.assert_close(mirrored, value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_a_share_outside_the_unit_interval_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\] \(0 is forward_kl, 1 is reverse_kl\)"):
        GeneralizedJSD(beta=beta)


def test_a_certain_teacher_has_its_closed_form() -> None:
    # p = (1, 0), q = (½, ½): m = (¾, ¼), JSD = ½ log(4/3) + ¼ log(2/3) + ¼ log 2.
    value = values_of(GeneralizedJSD(), logits_of([0.5, 0.5]), logits_of([1.0, 0.0]))
    expected = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
def test_values_and_gradients_are_trls_token_by_token() -> None:
    pytest.importorskip("trl")
    from trl.experimental.gkd import GKDTrainer

    student, teacher = logit_pair(6, 11, seed=3)
    for beta in (0.0, 0.1, 0.5, 0.9, 1.0):
        for temperature in (0.7, 1.0, 2.0):
            leaf = student.clone().requires_grad_()
            theirs = GKDTrainer.generalized_jsd_loss(leaf, teacher, None, beta, temperature, reduction="none")
            theirs.sum().backward()
            objective = GeneralizedJSD(beta=beta, temperature_on="both")
            scale = temperature**2  # trl leaves the factor τ² out
            ours = values_of(objective, student, teacher, temperature=temperature) / scale
            torch.testing.assert_close(ours, theirs.sum(-1).detach(), rtol=RELATIVE, atol=1e-15)
            gradient = gradient_of(objective, student, teacher, temperature=temperature) / scale
            torch.testing.assert_close(gradient, leaf.grad, rtol=RELATIVE, atol=1e-12)


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
def test_the_mean_over_labelled_tokens_is_trls_loss() -> None:
    pytest.importorskip("trl")
    from trl.experimental.gkd import GKDTrainer

    student, teacher = (logits.view(2, 4, 7) for logits in logit_pair(8, 7, seed=4))
    labels = torch.tensor([[-100, 1, 2, 3], [4, 5, -100, -100]])
    theirs = GKDTrainer.generalized_jsd_loss(student, teacher, labels, 0.3, 1.0)
    counted = labels != -100
    ours = values_of(GeneralizedJSD(beta=0.3), student[counted], teacher[counted]).mean()
    torch.testing.assert_close(ours, theirs, rtol=RELATIVE, atol=0.0)
