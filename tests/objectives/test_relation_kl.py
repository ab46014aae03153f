"""Relation KL: the definition with loops in numpy, any two widths, attended positions only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import bert_config
from feature_cases import LENGTHS, states, values_of

from hf_distill.objectives import RelationKL


def relation(rows: np.ndarray) -> np.ndarray:
    """softmax of scaled dot products, written with loops."""
    scores = np.array([[np.dot(a, b) / np.sqrt(len(a)) for b in rows] for a in rows])
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def by_loops(student: np.ndarray, teacher: np.ndarray, heads: int) -> list[float]:
    found = []
    for example, length in enumerate(LENGTHS):
        total = np.zeros(length)
        for head in range(heads):
            p, q = (
                relation(side[example, :length, head * side.shape[2] // heads : (head + 1) * side.shape[2] // heads])
                for side in (teacher, student)
            )
            total += (p * np.log(p / q)).sum(1)
        found += (total / heads).tolist()
    return found


@pytest.mark.parametrize("heads", [1, 2])
def test_it_is_the_definition_for_models_of_two_widths(heads):
    student, teacher = states(6, seed=1), states(8, seed=2)
    values = values_of("relation_kl", student, teacher, relation_heads=heads)
    assert values.tolist() == pytest.approx(by_loops(student.numpy(), teacher.numpy(), heads), rel=1e-10, abs=1e-14)


def test_one_position_relates_to_itself_alone():
    values = values_of("relation_kl", states(6, seed=1), states(8, seed=2))
    assert values[sum(LENGTHS[:2])].item() == 0.0


def test_two_positions_have_their_closed_form():
    """d = 1: the teacher's relation of 1 to (1, 0) is softmax(1, 0), of 0 it is even; the student's are all even."""
    teacher = torch.tensor([[[1.0], [0.0]]], dtype=torch.float64)
    values = values_of("relation_kl", torch.zeros_like(teacher), teacher, torch.ones(1, 2))
    p = np.e / (1 + np.e)
    expected = p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))
    assert values.tolist() == pytest.approx([expected, 0.0], rel=1e-12, abs=1e-15)


def test_one_rotation_of_all_states_changes_nothing():
    student, teacher = states(6, seed=1), states(6, seed=2)
    rotation = torch.linalg.qr(states(6, seed=3)[0, :, :].T @ states(6, seed=4)[0])[0]
    torch.testing.assert_close(
        values_of("relation_kl", student @ rotation, teacher), values_of("relation_kl", student, teacher)
    )


def test_a_batch_that_is_all_padding_in_one_example_stays_finite():
    student = states(6, seed=1).requires_grad_()
    mask = torch.tensor([[1] * 5, [0] * 5, [1] * 5, [0] * 5])
    values = values_of("relation_kl", student, states(8, seed=2), mask)
    values.sum().backward()
    assert values.shape == (10,)
    assert values.isfinite().all()
    assert student.grad.isfinite().all()


def test_heads_that_do_not_divide_a_width_are_refused_at_construction():
    with pytest.raises(ValueError, match="the teacher's width 32 cannot be split into relation_heads = 6"):
        RelationKL(relation_heads=6).check_layers(bert_config(hidden_size=48), bert_config(hidden_size=32), [(1, 1)])
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        RelationKL(relation_heads=0)
