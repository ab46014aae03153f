"""Padding out of sight: what a pair of layers says, in rows, pooled and as attentions."""

from __future__ import annotations

import pytest
import torch
from feature_cases import EXAMPLES, LENGTHS, TOKENS, attended, attentions, pooled, states

from hf_distill.reading.layer_states import AttentionRows, LayerStates


def test_rows_are_the_attended_positions_in_order():
    student, teacher = states(6, seed=1), states(8, seed=2)
    rows = LayerStates.of(student, teacher, attended()).rows()
    assert [tuple(side.shape) for side in rows] == [(TOKENS, 6), (TOKENS, 8)]
    assert torch.equal(rows[0][LENGTHS[0]], student[1, 0])


def test_the_mean_over_positions_leaves_padding_out():
    student, teacher = states(6, seed=1), states(8, seed=2)
    found = LayerStates.of(student.masked_fill(attended().unsqueeze(-1) == 0, torch.nan), teacher, attended()).pooled()
    torch.testing.assert_close(found[0], torch.from_numpy(pooled(student)))
    torch.testing.assert_close(found[1], torch.from_numpy(pooled(teacher)))


def test_an_example_of_padding_alone_is_zero_and_not_nan():
    mask = attended()
    mask[2] = 0
    assert LayerStates.of(states(6), states(8), mask).pooled()[0][2].tolist() == [0.0] * 6


def test_a_model_without_positions_has_one_position():
    layer = LayerStates.of(torch.ones(3, 6), torch.ones(3, 8), torch.ones(3, 20))
    assert layer.student_BTS.shape == (3, 1, 6)
    assert layer.mask_BT.tolist() == [[True]] * 3


def test_without_a_mask_every_position_is_attended():
    assert LayerStates.of(states(6), states(8), None).rows()[0].shape == (EXAMPLES * 5, 6)


def test_a_projector_learns_nothing_from_garbage_in_padding():
    projector = torch.nn.Linear(6, 8, dtype=torch.float64)
    garbage = states(6).masked_fill(attended().unsqueeze(-1) == 0, torch.nan)
    layer = LayerStates.of(garbage, states(8), attended(), project=projector)
    (layer.student_BTS - layer.teacher_BTH).square().sum().backward()
    assert projector.weight.grad.isfinite().all()
    assert (layer.student_BTS[~layer.mask_BT] == 0).all()


@pytest.mark.parametrize("teacher", [states(8)[:, :4], states(8)[:2], states(8)[0]])
def test_positions_that_do_not_belong_together_are_refused(teacher):
    with pytest.raises(ValueError, match=r"hidden states have shapes .* of the same positions"):
        LayerStates.of(states(6), teacher, attended())


def test_a_prompt_in_front_is_refused():
    with pytest.raises(ValueError, match=r"the attention mask \(4, 3\)"):
        LayerStates.of(states(6), states(8), attended()[:, :3])


def test_attentions_are_rows_of_queries_over_keys():
    student, teacher = attentions(2, seed=1), attentions(4, seed=2)
    rows = AttentionRows.of(student, teacher, attended())
    assert rows.student_NAT.shape == (TOKENS, 2, 5)
    assert rows.teacher_NAT.shape == (TOKENS, 4, 5)
    assert torch.equal(rows.student_NAT[1], student[0, :, 1])
    torch.testing.assert_close(rows.teacher_NAT.sum(-1), torch.ones(TOKENS, 4, dtype=torch.float64))
    assert AttentionRows.of(student, teacher, None).student_NAT.shape == (EXAMPLES * 5, 2, 5)


def test_attentions_of_other_positions_are_refused():
    with pytest.raises(ValueError, match=r"attentions have shapes .* expected \(B, heads, T, T\)"):
        AttentionRows.of(attentions(), attentions()[:2], attended())
    with pytest.raises(ValueError, match=r"the mask \(4, 3\)"):
        AttentionRows.of(attentions(), attentions(), attended()[:, :3])
