"""Probabilistic knowledge transfer: the definition with loops in numpy for both kernels and divergences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from feature_cases import EXAMPLES, pooled, states, values_of

KERNELS = {
    "cosine": lambda a, b: (1 + a @ b / np.sqrt((a @ a) * (b @ b))) / 2,
    "student_t": lambda a, b: 1 / (1 + np.sqrt(((a - b) ** 2).sum())),
}


def by_loops(student: np.ndarray, teacher: np.ndarray, kernel: str, divergence: str) -> list[float]:
    found = []
    for i in range(EXAMPLES):
        others = [j for j in range(EXAMPLES) if j != i]
        similar = [np.array([KERNELS[kernel](side[i], side[j]) for j in others]) for side in (teacher, student)]
        p, q = (row / row.sum() for row in similar)
        weight = p - q if divergence == "jeffreys" else p
        found.append(float((weight * np.log(p / q)).sum()))
    return found


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("divergence", ["jeffreys", "kl"])
def test_it_is_the_definition(kernel, divergence):
    student, teacher = states(6, seed=1), states(8, seed=2)
    values = values_of("pkt", student, teacher, kernels=kernel, divergence=divergence)
    expected = by_loops(pooled(student), pooled(teacher), kernel, divergence)
    assert values.tolist() == pytest.approx(expected, rel=1e-10)


def test_both_kernels_add_up():
    layers = states(6, seed=1), states(8, seed=2)
    parts = values_of("pkt", *layers, kernels="cosine") + values_of("pkt", *layers, kernels="student_t")
    torch.testing.assert_close(values_of("pkt", *layers), parts)


def test_three_examples_have_their_closed_form():
    """At 0 of 0, 1, 3 the teacher is similar by 1/2 and 1/4, the student at 0 of 0, 1, 1 evenly: P = 2/3, 1/3."""
    teacher = torch.tensor([[[0.0]], [[1.0]], [[3.0]]], dtype=torch.float64)
    student = torch.tensor([[[0.0]], [[1.0]], [[-1.0]]], dtype=torch.float64)
    values = values_of("pkt", student, teacher, torch.ones(3, 1), kernels="student_t", divergence="kl")
    expected = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert values[0].item() == pytest.approx(expected, rel=1e-12)


def test_a_rotation_changes_nothing_nor_a_scale_with_the_cosine_kernel():
    student, teacher = states(6, seed=1), states(8, seed=2)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    torch.testing.assert_close(values_of("pkt", student @ rotation, teacher), values_of("pkt", student, teacher))
    scaled = values_of("pkt", 9.0 * student, teacher, kernels="cosine")
    torch.testing.assert_close(scaled, values_of("pkt", student, teacher, kernels="cosine"))


def test_opposite_states_do_not_make_it_infinite():
    teacher = torch.tensor([[[1.0]], [[-1.0]], [[1.0]]])
    student = torch.tensor([[[1.0]], [[1.0]], [[-1.0]]], requires_grad=True)
    values = values_of("pkt", student, teacher, torch.ones(3, 1), kernels="cosine")
    values.sum().backward()
    assert values.isfinite().all()
    assert student.grad.isfinite().all()
