"""Tensors copied into a teacher in memory."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_model

from hf_distill.teachers.swap import copy_in_place, names_fit


def test_a_swap_keeps_the_tensors_that_wrappers_hold():
    model = tiny_model("classification")
    held = dict(model.named_parameters())
    tensors = {name: value + 1 for name, value in model.state_dict().items()}
    copy_in_place(tensors, model, what="X")
    assert all(parameter is held[name] for name, parameter in model.named_parameters())
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("lacking", [True, False], ids=["lacks a tensor", "has one more"])
def test_tensors_of_another_model_are_refused_and_change_nothing(lacking):
    model = tiny_model("classification")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: value + 1 for name, value in before.items()}
    if lacking:
        del tensors["classifier.bias"]
    else:
        tensors["extra.weight"] = torch.zeros(1)
    assert not names_fit(tensors, model)
    name = "classifier.bias" if lacking else "extra.weight"
    with pytest.raises(ValueError, match=rf"X does not fit the teacher in memory: {name}.*one architecture"):
        copy_in_place(tensors, model, what="X")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
