"""Relational distillation: distances and angles with loops in numpy, and the motions that change nothing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from feature_cases import EXAMPLES, pooled, states, values_of

from hf_distill.objectives import RKD


def huber(x: float) -> float:
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def distances(features: np.ndarray) -> np.ndarray:
    found = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in features] for a in features])
    return found / np.mean([found[i, j] for i, j in permutations(range(len(features)), 2)])


def cosine_at(features: np.ndarray, i: int, j: int, k: int) -> float:
    a, b = features[j] - features[i], features[k] - features[i]
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_distances_are_the_definition(scale):
    student, teacher = states(6, seed=1), states(8, seed=2)
    student[0] *= scale
    s, t = distances(pooled(student)), distances(pooled(teacher))
    expected = [np.mean([huber(s[i, j] - t[i, j]) for j in range(EXAMPLES) if j != i]) * 25.0 for i in range(EXAMPLES)]
    assert values_of("rkd", student, teacher, angle=0.0).tolist() == pytest.approx(expected, rel=1e-12)


def test_angles_are_the_definition():
    student, teacher = states(6, seed=1), states(8, seed=2)
    s, t = pooled(student), pooled(teacher)
    expected = [
        2.0
        * np.mean(
            [
                huber(cosine_at(s, i, j, k) - cosine_at(t, i, j, k))
                for j, k in permutations([n for n in range(EXAMPLES) if n != i], 2)
            ]
        )
        for i in range(EXAMPLES)
    ]
    assert values_of("rkd", student, teacher, distance=0.0, angle=2.0).tolist() == pytest.approx(expected, rel=1e-12)


def test_both_add_up():
    layers = states(6, seed=1), states(8, seed=2)
    parts = values_of("rkd", *layers, angle=0.0) + values_of("rkd", *layers, distance=0.0)
    torch.testing.assert_close(values_of("rkd", *layers), parts)


def test_an_even_triangle_against_a_line_has_its_closed_form():
    """Distances 1, 1, 1 against 1, 1, 2 over 4/3: at the ends 1/4 and −1/2, in the middle 1/4 twice."""
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64).unsqueeze(1)
    student = torch.tensor([[0.0], [2.0], [1.0]], dtype=torch.float64).unsqueeze(1)
    values = values_of("rkd", student, teacher, torch.ones(3, 1), distance=1.0, angle=0.0)
    end, middle = (0.25**2 + 0.5**2) / 4, 0.25**2 / 2
    assert values.tolist() == pytest.approx([end, end, middle], rel=1e-12)
    angles = values_of("rkd", student, teacher, torch.ones(3, 1), distance=0.0, angle=1.0)
    # The cosine is 1/2 everywhere in the triangle; on the line 1 at the ends and −1 in the middle.
    assert angles.tolist() == pytest.approx([0.125, 0.125, 1.0], rel=1e-12)


def test_scales_shifts_and_rotations_change_nothing():
    student, teacher = states(6, seed=1), states(8, seed=2)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    torch.testing.assert_close(
        values_of("rkd", 5.0 * student @ rotation + 3.0, teacher), values_of("rkd", student, teacher)
    )


@pytest.mark.parametrize("weights", [{"distance": -1.0}, {"distance": 0.0, "angle": 0.0}])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="must be ≥ 0 and not both 0"):
        RKD(**weights)
