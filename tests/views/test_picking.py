"""Scores of examples from the scores of their rows, and the largest of them kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from hf_distill.reading.signals import Signals
from hf_distill.views.picking import entropy, example_scores, items_ratio, keep_largest, row_scores


def test_the_entropy_is_that_of_its_definition():
    logits = torch.randn(20, 7, dtype=torch.float64) * 3
    torch.testing.assert_close(entropy(logits), Categorical(logits=logits).entropy(), rtol=1e-10, atol=1e-12)
    assert entropy(torch.tensor([[1e4, 0.0, -torch.inf]])).item() == 0.0
    assert entropy(torch.zeros(1, 5)).item() == pytest.approx(math.log(5))


@pytest.mark.parametrize("by", ["student_entropy", "teacher_entropy", "kl"])
def test_a_score_is_of_its_own_model(by):
    student, teacher = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 8, dtype=torch.float64)
    ours, theirs = Categorical(logits=student), Categorical(logits=teacher[:, :5])
    expected = {
        "student_entropy": ours.entropy(),
        "teacher_entropy": theirs.entropy(),
        "kl": kl_divergence(theirs, ours),
    }[by]
    signals = Signals(student, teacher_logits=teacher, shared_width=5)
    torch.testing.assert_close(row_scores(signals, by), expected, rtol=1e-9, atol=1e-12)


def test_an_example_is_scored_by_its_own_rows():
    counted = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    scores = example_scores(torch.tensor([1.0, 3.0, 4.0, 5.0, 9.0]), counted)
    assert scores.tolist() == [2.0, -math.inf, 6.0]
    assert example_scores(torch.tensor([1.0, 3.0]), None).tolist() == [1.0, 3.0]
    assert example_scores(torch.tensor([7.0]), torch.tensor([False, True])).tolist() == [-math.inf, 7.0]


def test_the_largest_are_kept():
    pools = [
        {"x": torch.arange(4) + 10 * pool, "t": torch.full((4, 2), pool), "one": torch.tensor(5), "word": "kept"}
        for pool in range(3)
    ]
    scores = [torch.tensor(values) for values in ([0.1, 0.9, 0.2, 0.3], [0.8, 0.0, 0.0, 0.4], [0.0, 0.0, 0.7, 0.0])]
    kept = keep_largest(pools, scores)
    assert kept["x"].tolist() == [1, 10, 13, 22]
    assert kept["t"][:, 0].tolist() == [0, 1, 1, 2]
    assert (kept["one"].item(), kept["word"]) == (5, "kept")


def test_equal_scores_are_not_kept_by_chance():
    pools = [{"x": torch.arange(3)}, {"x": torch.arange(3) + 10}]
    assert keep_largest(pools, [torch.ones(3), torch.ones(3)])["x"].tolist() == [0, 1, 2]
    nothing = torch.full((3,), -torch.inf)
    assert keep_largest(pools, [nothing, torch.tensor([1.0, -torch.inf, 2.0])])["x"].tolist() == [0, 10, 12]


def test_a_pick_with_more_labels_weighs_no_more():
    batch = {"labels": torch.tensor([[1, -100], [2, 3]]), "attention_mask": torch.ones(2, 2)}
    picked = {"labels": torch.tensor([[2, 3], [2, 3]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    ratio = items_ratio(batch, picked, "masked_lm")
    assert {unit: value.item() for unit, value in ratio.items()} == {
        "label": pytest.approx(3 / 4),
        "token": pytest.approx(4 / 3),
        "example": 1.0,
        "batch": 1.0,
    }
