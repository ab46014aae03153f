"""Memory of a step: what is exact against real tensors, what is estimated against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from builders import distill_config, distill_trainer, examples, tiny_model
from transformers import TrainingArguments

from hf_distill.planning.memory import (
    BatchShape,
    TeacherCall,
    dense_head_bytes,
    step_memory,
    teacher_call,
    tiled_head_bytes,
    total,
)
from hf_distill.planning.model_size import ModelSize, model_size
from hf_distill.planning.model_states import StepSettings, step_settings
from hf_distill.teachers.offload import Offload

SHAPE = BatchShape(examples=2, tokens=14, positions=16, rows=5)


def size(*, weight_bytes: int = 4000, hidden: int = 8, outputs: int = 100) -> ModelSize:
    return ModelSize(
        parameters=1000,
        multiplied=1000,
        weight_bytes=weight_bytes,
        hidden=hidden,
        outputs=outputs,
        layers=3,
        width=8,
    )


def arguments(tmp_path, **changes) -> StepSettings:
    return step_settings(TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **changes))


def named(lines) -> dict[str, int]:
    return {line.name: line.size for line in lines}


@pytest.mark.parametrize(("optim", "optimizer"), [("adamw_torch", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_weights_gradients_and_states_are_those_of_a_real_step(tmp_path, optim, optimizer):
    model = tiny_model("masked_lm")
    stepper = optimizer(model.parameters(), lr=0.1)
    ids = torch.arange(6).reshape(2, 3)
    model(input_ids=ids, labels=ids).loss.backward()
    stepper.step()
    states = [value for state in stepper.state.values() for value in state.values() if torch.is_tensor(value)]
    held = sum(value.numel() * value.element_size() for value in states if value.dim())
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in model.parameters() if p.grad is not None)
    lines = named(step_memory(model_size(model), None, arguments(tmp_path, optim=optim), SHAPE, head=0))
    assert lines.get("optimizer states", 0) == held
    assert lines["student weights and gradients"] == model_size(model).weight_bytes + gradients


def test_activations_are_the_published_estimate(tmp_path):
    lines = named(step_memory(size(), None, arguments(tmp_path, bf16=True), SHAPE, head=0))
    assert lines["activations of the student"] == 34 * 16 * 8 * 3  # 34·s·b·h a layer in 16 bits
    full = named(step_memory(size(), None, arguments(tmp_path), SHAPE, head=0))
    assert full["activations of the student"] == 2 * lines["activations of the student"]


def test_the_largest_class_comes_first_and_nothing_is_listed_for_nothing(tmp_path):
    lines = step_memory(size(), size(weight_bytes=10**6), arguments(tmp_path, optim="sgd"), SHAPE, head=0)
    assert lines[0].name == "teacher weights"
    assert all(line.size > 0 and line.fix for line in lines)
    assert total(lines) == sum(line.size for line in lines)


def test_a_dense_head_holds_whole_logits_and_a_tiled_one_its_buffers():
    student, teacher = size(), size(hidden=16)
    # Student logits and their gradient and teacher logits over 16 positions, four row-wise tensors over 5 rows.
    assert dense_head_bytes(student, teacher, SHAPE) == 4 * (2 * 16 * 100 + 16 * 100 + 4 * 5 * 100)
    held = 4 * (100 * 8 + 5 * (2 * 8 + 16))
    assert tiled_head_bytes(student, teacher, SHAPE, budget=1000) == 1000 + held
    # A few rows of a small vocabulary are less than any budget.
    assert tiled_head_bytes(student, teacher, SHAPE, budget=10**9) == 4 * 5 * (100 + 100) + held


def asked(tmp_path, *, joins: bool = True, **changes) -> TeacherCall:
    settings = step_settings(distill_config(tmp_path, gradient_accumulation_steps=8, **changes))
    return teacher_call(settings, SHAPE, joins=joins)


def test_a_window_is_counted_and_stays_within_its_cap(tmp_path):
    assert asked(tmp_path) == TeacherCall(window=1, together=1)
    assert asked(tmp_path, teacher_window=True) == TeacherCall(window=8, together=8)
    assert asked(tmp_path, teacher_window=True, teacher_window_examples=5).together == 2
    assert asked(tmp_path, teacher_window=True, teacher_window_examples=1).together == 1
    assert asked(tmp_path, teacher_window=True, joins=False) == TeacherCall(window=1, together=1)


class Counted(Offload):
    """Counts how often weights are copied to the device."""

    copies = 0

    def to_device(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        self.copies += 1
        return super().to_device(tensors)


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        ({}, 5),
        ({"teacher_window": True}, 1),
        ({"teacher_window": True, "teacher_window_examples": 4}, 3),
        ({"teacher_window": True, "curriculum": {"name": "one_shot", "objectives": [{"name": "hidden_mse"}]}}, 5),
    ],
)
def test_a_lent_teacher_is_copied_as_often_as_planned(tmp_path, settings, copies):
    teacher = tiny_model("masked_lm", seed=7)
    lent = Counted(teacher, torch.device("cpu"))
    trainer = distill_trainer(
        tmp_path,
        "masked_lm",
        teacher=teacher,
        train_dataset=examples("masked_lm", count=10),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=5,
        max_steps=1,
        **settings,
    )
    trainer.train()
    joins = not any("hidden" in need for need in trainer.distillation.stage_at(0).needs)
    call = teacher_call(step_settings(trainer.args), SHAPE, lent=True, joins=joins)
    assert lent.copies == len(call.calls(5)) == copies
    assert sum(call.calls(5)) == 5


def test_a_windows_answers_take_memory(tmp_path):
    teacher, window = size(weight_bytes=100, hidden=16), TeacherCall(window=4, together=2)
    lines = named(step_memory(size(), teacher, arguments(tmp_path), SHAPE, head=0, call=window))
    # Rows in front of the teacher's head for the whole window; one layer's activations of two micro-batches.
    assert lines["teacher's answers to a window, and a layer of its call"] == 4 * 5 * 4 * 16 + 68 * 16 * 2 * 8
    assert lines["teacher weights"] == 100
    assert len(lines) == 5
    classes = named(step_memory(size(), size(outputs=3), arguments(tmp_path), SHAPE, head=0, call=window))
    assert classes["teacher's answers to a window, and a layer of its call"] == 4 * 5 * 4 * 3 + 68 * 16 * 2 * 8


ACTIVATIONS = 34 * 16 * 8 * 3 * 2
LARGE, KEPT = 10**6, 800 * 10**6 // 1000
"""Of a teacher of 1,000 parameters, 8 × 100 of them its head."""


@pytest.mark.parametrize(
    ("weights", "call", "beside"),
    [
        # Gone before the student's forward, but for the head in front of which its rows are.
        (LARGE, TeacherCall(), LARGE - ACTIVATIONS - 500),
        (1000, TeacherCall(), 800),
        # Three calls answer a window, and each answer keeps a head; the last call has all of the weights.
        (LARGE, TeacherCall(window=8, together=3), 2 * KEPT + LARGE - ACTIVATIONS - 500),
        (1000, TeacherCall(window=8, together=3), 2400),
        # Asked when the student's activations are there already.
        (LARGE, TeacherCall(first=False), LARGE - 500),
        (100, TeacherCall(first=False), None),
    ],
)
def test_weights_that_are_lent_take_memory_during_the_call(tmp_path, weights, call, beside):
    lent = replace(call, lent=True)
    lines = named(step_memory(size(), size(weight_bytes=weights), arguments(tmp_path), SHAPE, head=500, call=lent))
    assert lines.get("teacher weights beside the student's, during a call") == beside


def test_a_vocabulary_asks_its_teacher_first_and_classes_ask_it_behind_the_student(tmp_path):
    """What `first` stands for, looked up in a training step."""
    for head, order in (("masked_lm", ["teacher", "student"]), ("classification", ["student", "teacher"])):
        seen: list[str] = []
        models = {"student": tiny_model(head, seed=1), "teacher": tiny_model(head, seed=7)}
        for name, model in models.items():
            model.register_forward_pre_hook(lambda *_, name=name, seen=seen: seen.append(name))
        trainer = distill_trainer(tmp_path, head, model=models["student"], teacher=models["teacher"], max_steps=1)
        trainer.train()
        assert seen == order
