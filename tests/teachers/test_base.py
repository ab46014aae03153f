from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from builders import HEADS, answer_of, as_read, examples, tiny_model
from torch import nn

from hf_distill import LiveTeacher
from hf_distill.teachers.base import TeacherSource, freeze, unwrapped


class Wrapper(nn.Module):
    """Stands for DistributedDataParallel: counts the calls that go through it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, **inputs: Any) -> Any:
        self.calls += 1
        return self.module(**inputs)


class WrappedTeacher(LiveTeacher):
    """A live teacher that a distributed backend has wrapped."""

    def wrap(self) -> Wrapper:
        self._model = Wrapper(self._model)
        return self._model


def batch_of(head: str) -> dict[str, torch.Tensor]:
    items = examples(head)
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


@pytest.mark.parametrize("head", HEADS)
def test_the_teacher_answers_as_its_model_does(head):
    model, batch = tiny_model(head, seed=2), as_read(head, batch_of(head))
    logits = LiveTeacher(model).logits({**batch, "idx": torch.arange(8)})
    torch.testing.assert_close(logits, answer_of(model, batch), rtol=0, atol=0)


def test_without_a_student_the_teacher_makes_the_same_input_of_its_decoder():
    teacher, batch = LiveTeacher(tiny_model("seq2seq_lm", seed=2)), batch_of("seq2seq_lm")
    given = teacher.inputs_of(batch, head="seq2seq_lm")
    assert torch.equal(given["decoder_input_ids"], as_read("seq2seq_lm", batch)["decoder_input_ids"])
    assert teacher.inputs_of(batch, head="masked_lm").keys() == batch.keys()


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_keeps_no_keys_and_values_for_a_text_that_never_goes_on(head):
    model, batch = tiny_model(head, seed=2), as_read(head, batch_of(head))
    teacher, kept = LiveTeacher(model), []
    model.register_forward_hook(lambda module, inputs, output: kept.append(dict(output).get("past_key_values")))
    teacher.logits(batch)
    assert kept == [None]


def test_labels_never_reach_the_teacher():
    """It would compute a loss that nobody reads, or fail on labels of another kind."""
    seen: list[Mapping[str, Any]] = []
    model = tiny_model("classification")
    model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    LiveTeacher(model).logits(batch_of("classification"))
    assert set(seen[0]) == {"input_ids", "attention_mask"}


def test_hidden_states_are_those_of_the_layers_and_nothing_behind_them_runs():
    model, batch = tiny_model("classification", seed=2), batch_of("classification")
    heads: list[int] = []
    model.classifier.register_forward_hook(lambda *_: heads.append(1))
    hidden = LiveTeacher(model).hidden_states(batch, [1])
    assert not heads
    with torch.no_grad():
        expected = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
        ).hidden_states
    torch.testing.assert_close(hidden[1], expected[1], rtol=0, atol=1e-6)


def test_a_wrapped_teacher_is_read_inside_and_called_outside():
    model = tiny_model("classification")
    teacher = WrappedTeacher(model)
    wrapper = teacher.wrap()
    assert unwrapped(wrapper) is model
    assert "input_ids" in teacher.forward_arguments
    teacher.logits(batch_of("classification"))
    assert wrapper.calls == 1
    assert unwrapped(model) is model


def test_a_model_that_has_a_part_called_module_is_not_unwrapped():
    model = tiny_model("classification")
    model.module = nn.Linear(1, 1)
    assert unwrapped(model) is model


def test_a_frozen_model_keeps_no_graph_and_no_dropout():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    freeze(model)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_manifest_has_what_a_run_record_needs():
    (entry,) = LiveTeacher(tiny_model("classification")).manifest()
    assert list(entry) == ["name", "step", "source", "revision", "commit"]


def test_what_a_source_may_leave_out_does_nothing():
    teacher: TeacherSource = LiveTeacher(tiny_model("classification"))
    before = teacher.manifest()
    for call in (lambda: teacher.prepare(0), lambda: teacher.need([0]), lambda: teacher.read_ahead(0), teacher.close):
        assert call() is None
    assert teacher.manifest() == before
