"""Where teachers lie, and that a second training finds them as the first one left them."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from builders import tiny_model

from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.placement import Placement

IDS = torch.arange(6).reshape(2, 3)


def test_a_placed_teacher_is_frozen():
    model = tiny_model("masked_lm").train()
    placed = Placement().place(model, Accelerator(cpu=True))
    assert placed is model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_teacher_is_compiled_once_for_all_trainings():
    model, placement = tiny_model("masked_lm"), Placement(compiled="eager")
    expected = model.eval()(input_ids=IDS).logits
    placement.place(model, None)
    body = model.bert._compiled_call_impl
    assert body is not None
    assert model._compiled_call_impl is None, "the head stays outside"
    placement.place(model, Accelerator(cpu=True))
    assert model.bert._compiled_call_impl is body
    torch.testing.assert_close(model(input_ids=IDS).logits, expected)
    assert not any("_orig_mod" in name for name in model.state_dict())


@pytest.mark.parametrize("compiled", [False, True, "eager"])
def test_layers_of_a_compiled_teacher_cannot_be_read(compiled):
    found = Placement(compiled=compiled).allowed(TeacherSource.provides)
    assert ("teacher.hidden_states" in found) == (not compiled)
    assert {"teacher.logits", "teacher.live"} <= found


def test_settling_does_not_wait_for_weights_that_are_nowhere():
    placement = Placement(offload=True)
    placement.settle()
    assert placement.offload


def test_parts_in_the_place_of_others_are_frozen_and_compiled():
    model, placement = tiny_model("masked_lm"), Placement(compiled="eager")
    placement.place(model, None)
    model.bert = tiny_model("masked_lm", seed=3).bert
    placement.renew(model)
    assert model.bert._compiled_call_impl is not None
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"offload": True}, r"on the CPU with CPU offload .*leave `offload` out"),
        ({"compiled": True}, r"hooks that put split layers together; leave `sharded` out"),
        ({"quantized": True}, r"stay whole on the device; leave `sharded` out"),
    ],
)
def test_a_sharded_teacher_is_placed_in_one_way(asked, message):
    with pytest.raises(ValueError, match=message):
        Placement(sharded=True, **asked)


def test_a_sharded_teacher_is_whole_on_one_rank_and_that_is_said(caplog):
    model, placement = tiny_model("masked_lm"), Placement(sharded=True)
    with caplog.at_level("WARNING"):
        assert placement.place(model, Accelerator(cpu=True)) is model
    assert "sharded: the student is whole on every rank (NO), and so is the teacher" in caplog.text
    assert placement.split is None
