"""Cosine distance of hidden states: direction only, one value an attended token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_cases import layer_pair, positions, states, values_of

from hf_distill.objectives import HiddenCosine
from hf_distill.reading.signals import Signals


def test_it_is_the_cosine_that_numpy_finds():
    student, teacher = layer_pair("hidden_cosine")
    expected = []
    for example, position in positions():
        s, t = student[example, position].numpy(), teacher[example, position].numpy()
        expected.append(1.0 - np.dot(s, t) / np.sqrt(np.dot(s, s) * np.dot(t, t)))
    assert values_of("hidden_cosine", student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_right_angles_opposites_and_zero_have_their_closed_forms():
    student = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    teacher = torch.tensor([[0.0, 2.0], [-3.0, -3.0], [1.0, 0.0]])
    values = HiddenCosine().values(Signals(student_hidden=student, teacher_hidden=teacher), temperature=1.0)
    torch.testing.assert_close(values, torch.tensor([1.0, 2.0, 1.0]))


def test_the_lengths_of_states_do_not_matter():
    student, teacher = layer_pair("hidden_cosine")
    values = values_of("hidden_cosine", student, teacher)
    torch.testing.assert_close(values_of("hidden_cosine", 7.0 * student, 0.1 * teacher), values)


def test_states_of_other_widths_are_refused():
    with pytest.raises(ValueError, match="project them to one width"):
        values_of("hidden_cosine", states(6), states(8))
