"""What objectives on layers share: widths that fit, states of length 0, text for reports."""

from __future__ import annotations

import pytest
import torch
from builders import bert_config

from hf_distill.objectives import HiddenMSE, RelationKL
from hf_distill.objectives.features import check_equal_widths, check_same_shape, unit_vectors
from hf_distill.reading.layer_states import LayerStates
from hf_distill.reading.signals import Signals


def test_unit_vectors_have_length_one_and_zero_stays_zero_with_a_finite_gradient():
    states = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    directions = unit_vectors(states)
    directions.sum().backward()
    torch.testing.assert_close(directions.detach(), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert states.grad.isfinite().all()
    assert unit_vectors(states.half()).dtype == torch.float32


def test_other_widths_without_a_projector_are_refused_with_the_ways_out():
    narrow, wide = bert_config(hidden_size=16), bert_config(hidden_size=32)
    with pytest.raises(
        ValueError,
        match=r"hidden_mse .* in layers \[2, 1\] .* width 16 and the teacher's 32; set `projector: linear`, or use",
    ):
        check_equal_widths(HiddenMSE(), narrow, wide, [(2, 1)])
    check_equal_widths(HiddenMSE(projector="linear"), narrow, wide, [(2, 1)])
    check_equal_widths(HiddenMSE(), wide, wide, [(1, 1), (2, 2)])


def test_shapes_that_would_be_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3, 4\) and the teacher's \(1, 4\)"):
        check_same_shape(torch.zeros(3, 4), torch.zeros(1, 4))


def test_reports_name_layers_that_are_not_the_last():
    assert RelationKL().formula() == "KL(relations)"
    assert RelationKL(layers="uniform", relation_heads=4).formula() == "KL(relations, 4 heads, uniform)"


def test_an_image_with_more_positions_weighs_more_than_one_with_fewer():
    """Values of 2 images with 3 positions each, and of a second pair of layers with 1."""
    states = torch.arange(12.0).view(6, 2), torch.zeros(6, 2)
    of_images = HiddenMSE().values(
        Signals(student_hidden=states[0], teacher_hidden=states[1], examples=2), temperature=1.0
    )
    by_position = HiddenMSE().values(Signals(student_hidden=states[0], teacher_hidden=states[1]), temperature=1.0)
    assert by_position.shape == (6,)
    assert of_images.tolist() == [by_position[:3].mean().item(), by_position[3:].mean().item()]
    layers = tuple(LayerStates.of(torch.ones(2, count, 4), torch.zeros(2, count, 4), None) for count in (5, 1))
    assert HiddenMSE().values(Signals(layers=layers, examples=2), temperature=1.0).tolist() == [1.0, 1.0]
