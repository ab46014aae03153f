"""The X-divergence against float64 numpy in its three forms, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hf_distill.objectives import PassVariance, XDivergence, XDivergenceSum
from hf_distill.reading.signals import Signals

ROWS, CLASSES = 5, 9
PASSES = (2, 3, 4, 7)


def logits_of(passes: int, *, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(passes, ROWS, CLASSES, generator=generator, dtype=torch.float64)


def x_of(logits: torch.Tensor) -> NDArray[np.float64]:
    return XDivergence().values(Signals(student_passes=logits), temperature=1.0).numpy()


def probabilities(logits: torch.Tensor) -> NDArray[np.float64]:
    powers = np.exp(logits.numpy() - logits.numpy().max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return (one * np.log(one / other)).sum(-1)


def jeffreys(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return kl(one, other) + kl(other, one)


# ---- identities ----


@pytest.mark.parametrize("passes", PASSES)
@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_the_form_without_the_log_of_the_mean_is_the_same_divergence(passes, seed):
    logits = logits_of(passes, seed=seed)
    p = probabilities(logits)
    definition = np.mean([kl(one, p.mean(0)) + kl(p.mean(0), one) for one in p], axis=0)
    np.testing.assert_allclose(x_of(logits), definition, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("passes", PASSES)
@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_it_is_the_scaled_mean_over_all_pairs_of_passes(passes, seed):
    logits = logits_of(passes, seed=seed)
    p = probabilities(logits)
    pairs = [jeffreys(one, other) for one in p for other in p]
    np.testing.assert_allclose(x_of(logits), np.sum(pairs, axis=0) / (2 * passes**2), rtol=1e-10, atol=1e-13)
    unequal = [jeffreys(p[i], p[j]) for i in range(passes) for j in range(passes) if i != j]
    factor = (passes - 1) / (2 * passes)
    np.testing.assert_allclose(x_of(logits), factor * np.mean(unequal, axis=0), rtol=1e-10, atol=1e-13)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_two_passes_are_half_of_r_drops_term(seed):
    logits = logits_of(2, seed=seed)
    one, other = probabilities(logits)
    r_drop = 0.5 * (kl(one, other) + kl(other, one))
    np.testing.assert_allclose(x_of(logits), 0.5 * r_drop, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(x_of(logits), 0.25 * jeffreys(one, other), rtol=1e-10, atol=1e-13)


# ---- limits ----


@pytest.mark.parametrize("passes", PASSES)
def test_the_order_of_the_passes_does_not_matter(passes):
    logits = logits_of(passes)
    np.testing.assert_allclose(x_of(logits.flip(0)), x_of(logits), rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(x_of(logits.roll(1, 0)), x_of(logits), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("passes", PASSES)
def test_identical_passes_agree(passes):
    assert np.abs(x_of(logits_of(1).repeat(passes, 1, 1))).max() < 1e-15
    single = logits_of(1).float().repeat(passes, 1, 1)
    assert np.abs(x_of(single)).mean() < 1e-7, "the trainer's warning counts on it"


def test_the_gradient_goes_through_the_mean_and_every_pass():
    logits = logits_of(3).requires_grad_()
    p = torch.softmax(logits, -1)
    definition = ((p - p.mean(0)) * (p.log() - p.mean(0).log())).sum(-1).mean(0).sum()
    ours = XDivergence().values(Signals(student_passes=logits), temperature=1.0).sum()
    (expected,) = torch.autograd.grad(definition, logits, retain_graph=True)
    (found,) = torch.autograd.grad(ours, logits)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert (found.abs().sum((1, 2)) > 1e-3).all()


def test_confident_passes_give_no_nan():
    logits = torch.tensor([[[200.0, -200.0, 0.0]], [[-200.0, 200.0, 0.0]]], dtype=torch.float32)
    assert x_of(logits).item() == pytest.approx(200.0, rel=1e-6)


def test_a_class_masked_in_all_passes_breaks_neither_value_nor_gradient():
    masked = logits_of(3)
    masked[..., 4] = -torch.inf
    kept = [index for index in range(CLASSES) if index != 4]
    np.testing.assert_allclose(x_of(masked), x_of(masked[..., kept]), rtol=1e-12, atol=0.0)
    learning = masked.clone().requires_grad_()
    XDivergence().values(Signals(student_passes=learning), temperature=1.0).sum().backward()
    assert learning.grad.isfinite().all()
    assert (learning.grad[..., 4] == 0).all()


def test_the_sum_is_the_sum_of_the_rows():
    logits = logits_of(3)
    found = XDivergenceSum().values(Signals(student_passes=logits), temperature=1.0)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(x_of(logits).sum(), rel=1e-12)


def test_one_pass_alone_is_refused():
    with pytest.raises(ValueError, match=r"compares passes of the student.*set `intra.passes`"):
        XDivergence().values(Signals(student_logits=logits_of(1)[0]), temperature=1.0)


# ---- regression ----


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_variance_of_a_regression_is_numpys(passes, outputs):
    generator = torch.Generator().manual_seed(3)
    predictions = torch.randn(passes, ROWS, outputs, generator=generator, dtype=torch.float64)
    found = PassVariance().values(Signals(student_passes=predictions), temperature=1.0)
    np.testing.assert_allclose(found.numpy(), predictions.numpy().var(axis=0).mean(-1), rtol=1e-12)
