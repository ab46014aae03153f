"""Cross-entropy with the labels: its size, its smoothing, and that temperature leaves it alone."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

from hf_distill.objectives import CrossEntropy
from hf_distill.reading.signals import Signals


def values(logits: torch.Tensor, labels: list[int], *, temperature: float = 1.0, **fields: float) -> torch.Tensor:
    signals = Signals(student_logits=logits, labels=torch.tensor(labels))
    return CrossEntropy(**fields).values(signals, temperature=temperature)


def test_a_student_that_knows_nothing_pays_the_logarithm_of_the_classes():
    assert values(torch.zeros(2, 5), [0, 4]).tolist() == pytest.approx([math.log(5)] * 2, rel=1e-6)


def test_odds_of_three_to_one_cost_the_logarithm_of_four_thirds():
    logits = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    assert values(logits, [0]).item() == pytest.approx(math.log(4 / 3), rel=1e-12)
    assert values(logits, [1]).item() == pytest.approx(math.log(4), rel=1e-12)


def test_labels_have_no_temperature():
    logits = torch.randn(4, 3)
    assert torch.equal(values(logits, [0, 1, 2, 0], temperature=7.0), values(logits, [0, 1, 2, 0]))


def test_the_gradient_is_probability_minus_label():
    logits = torch.randn(3, 4, dtype=torch.float64).requires_grad_()
    labels = [3, 0, 2]
    values(logits, labels).sum().backward()
    expected = logits.detach().softmax(-1) - torch.nn.functional.one_hot(torch.tensor(labels), 4)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)


def test_smoothing_mixes_in_the_uniform_distribution():
    logits = torch.randn(3, 4, dtype=torch.float64)
    log_q, labels = logits.log_softmax(-1), [3, 0, 2]
    expected = -0.7 * log_q[range(3), labels] - 0.3 * log_q.mean(-1)
    torch.testing.assert_close(values(logits, labels, label_smoothing=0.3), expected, rtol=1e-12, atol=1e-12)


def test_smoothing_is_that_of_the_stock_trainer():
    logits, labels = torch.randn(1, 5, 4), torch.tensor([[1, 2, 3, 0, 1]])
    stock = LabelSmoother(epsilon=0.2)({"logits": logits}, labels)
    ours = values(logits[0], labels[0].tolist(), label_smoothing=0.2).mean()
    assert ours.item() == pytest.approx(stock.item(), rel=1e-6)


def test_half_precision_logits_cost_what_float32_logits_cost():
    logits = (torch.randn(4, 1000) * 5).bfloat16()
    assert torch.equal(values(logits, [0, 1, 2, 3]), values(logits.float(), [0, 1, 2, 3]))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 1.5])
def test_a_smoothing_that_leaves_no_label_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\)"):
        CrossEntropy(label_smoothing=smoothing)


def test_reports_name_the_smoothing_only_where_there_is_any():
    assert CrossEntropy().formula() == "CE(labels)"
    assert CrossEntropy(label_smoothing=0.1).formula() == "CE(labels, ε=0.1)"
