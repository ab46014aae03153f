"""Comparative distillation: differences of rows with loops in numpy, and what a difference cannot see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from logit_cases import logit_pair

from hf_distill.objectives import CKD
from hf_distill.reading.signals import Signals


def values(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 4.0, **fields) -> torch.Tensor:
    return CKD(**fields).values(Signals(student_logits=student, teacher_logits=teacher), temperature=temperature)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@pytest.mark.parametrize(("positive", "negative"), [(2, 1), (1, 1), (3, 2)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_the_definition(positive, negative, temperature):
    student, teacher = logit_pair(rows=6)
    expected = []
    for row in range(6):
        group = [(row + offset) % 6 for offset in range(positive + negative)]
        p, q = (
            softmax((side[group[:positive]].mean(0) - side[group[positive:]].mean(0)) / temperature)
            for side in (teacher.numpy(), student.numpy())
        )
        expected.append(temperature**2 * (p * np.log(p / q)).sum())
    found = values(student, teacher, temperature, positive=positive, negative=negative)
    assert found.tolist() == pytest.approx(expected, rel=1e-10)


def test_a_number_added_to_all_logits_of_a_row_changes_nothing():
    student, teacher = logit_pair()
    moved = student + torch.tensor([[5.0], [0.0], [-3.0], [100.0]], dtype=torch.float64)
    torch.testing.assert_close(values(moved, teacher), values(student, teacher))


def test_what_all_rows_are_wrong_by_alike_is_not_seen():
    """Comparisons alone leave a common error; that is what another term beside this one is for."""
    _, teacher = logit_pair()
    common = torch.arange(7, dtype=torch.float64)
    assert values(teacher + common, teacher).abs().max().item() < 1e-12


def test_one_row_has_nothing_to_be_compared_with():
    student, teacher = logit_pair(rows=1)
    assert values(student, teacher).tolist() == pytest.approx([0.0], abs=1e-12)


def test_the_limit_of_no_temperature_is_refused():
    with pytest.raises(ValueError, match=r"ckd .*temperature 0"):
        values(*logit_pair(), 0.0)
    with pytest.raises(ValueError, match="a difference of arg-maxima is infinite"):
        values(*logit_pair(), 0.0, temperature_on="teacher")


def test_empty_groups_are_refused():
    with pytest.raises(ValueError, match="groups need 1 row or more, got 0 and 1"):
        CKD(positive=0)


def test_it_says_that_it_depends_on_the_micro_batch():
    assert not CKD().partition_invariant
    assert CKD().formula() == "τ²·KL(Δteacher/τ ‖ Δstudent/τ)"
