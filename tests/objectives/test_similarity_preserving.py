"""Similarity-preserving distillation: the paper's definition with numpy, and what leaves it unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_cases import EXAMPLES, pooled, states, values_of


def normalised_gram(features: np.ndarray) -> np.ndarray:
    gram = np.array([[np.dot(a, b) for b in features] for a in features])
    return gram / np.sqrt((gram**2).sum(1, keepdims=True))


def test_the_mean_over_examples_is_the_papers_frobenius_norm():
    student, teacher = states(6, seed=1), states(8, seed=2)
    difference = normalised_gram(pooled(teacher)) - normalised_gram(pooled(student))
    expected = np.linalg.norm(difference, "fro") ** 2 / EXAMPLES**2
    assert values_of("similarity_preserving", student, teacher).mean().item() == pytest.approx(expected, rel=1e-12)


def test_two_orthogonal_examples_against_two_equal_ones_have_their_closed_form():
    """G_T = [[1, 0], [0, 1]], G_S = [[1, 1], [1, 1]] / √2: each row (1 − 1/√2)² + 1/2, over 2."""
    teacher = torch.eye(2, dtype=torch.float64).unsqueeze(1)
    student = torch.ones(2, 1, 3, dtype=torch.float64)
    expected = ((1 - 0.5**0.5) ** 2 + 0.5) / 2
    values = values_of("similarity_preserving", student, teacher, torch.ones(2, 1))
    assert values.tolist() == pytest.approx([expected, expected], rel=1e-12)


def test_a_scale_or_a_rotation_of_the_states_changes_nothing():
    student, teacher = states(6, seed=1), states(8, seed=2)
    rotation = torch.linalg.qr(states(5, seed=3)[0])[0]
    moved = torch.cat([student[..., :5] @ rotation, student[..., 5:]], -1) * 3.0
    torch.testing.assert_close(
        values_of("similarity_preserving", moved, teacher), values_of("similarity_preserving", student, teacher)
    )


def test_one_example_is_similar_to_itself_alone():
    values = values_of("similarity_preserving", states(6)[:1], states(8)[:1], torch.ones(1, 5))
    assert values.item() == pytest.approx(0.0, abs=1e-15)
