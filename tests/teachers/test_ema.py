from __future__ import annotations

import copy

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, tiny_model
from image_models import image_batch, image_model
from safetensors.torch import load_file
from torch.utils.data import default_collate
from transformers import TrainerCallback

from hf_distill import LiveTeacher
from hf_distill.reading.signals import select_rows
from hf_distill.teachers import EmaTeacher
from hf_distill.teachers.ema import Average

MIXED = {"name": "one_shot", "label_mix": 0.5}


class Trace(TrainerCallback):
    """Keeps the student's weights after every optimizer step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        self.weights.append(flat_weights(model))


def run(folder, source: EmaTeacher, **overrides):
    trace = Trace()
    trainer = distill_trainer(folder, teacher=source, curriculum=MIXED, callbacks=[trace], **overrides)
    first = flat_weights(trainer.model)
    trainer.train()
    return trainer, first, trace.weights


def test_it_is_the_moving_average_of_the_students_after_each_step(tmp_path):
    trainer, average, weights = run(tmp_path, EmaTeacher(0.8, warmup=False), max_steps=5)
    for student in weights:
        average = 0.8 * average + 0.2 * student
    torch.testing.assert_close(flat_weights(trainer.teacher.model), average, rtol=1e-5, atol=1e-6)


def test_warm_up_forgets_the_first_weights_soon(tmp_path):
    trainer, average, weights = run(tmp_path, EmaTeacher(0.5), max_steps=12)
    for step, student in enumerate(weights):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * student
    torch.testing.assert_close(flat_weights(trainer.teacher.model), average, rtol=1e-5, atol=1e-6)
    source = EmaTeacher(0.999)
    assert [source.decay_at(updates) for updates in (0, 1, 90, 10**6)] == [0.1, 2 / 11, 0.91, 0.999]


def test_decay_0_is_the_student_of_the_step_before(tmp_path):
    trainer, _, weights = run(tmp_path, EmaTeacher(0.0), max_steps=3)
    assert torch.equal(flat_weights(trainer.teacher.model), weights[-1])


def test_an_accumulation_window_is_one_update(tmp_path):
    trainer, _, weights = run(
        tmp_path, EmaTeacher(0.9), max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    assert len(weights) == trainer.teacher.state.updates == 3


def test_it_starts_from_the_student_that_training_starts_from(tmp_path):
    """A model may be loaded into the student after the trainer was made."""
    trainer = distill_trainer(tmp_path, teacher=EmaTeacher(0.9), curriculum=MIXED)
    trainer.model.load_state_dict(tiny_model("classification", seed=5).state_dict())
    trainer.distillation.begin(step=0, max_steps=4)
    assert torch.equal(flat_weights(trainer.teacher.model), flat_weights(tiny_model("classification", seed=5)))
    assert trainer.teacher.state.updates == 0


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_with_another_student_it_is_the_average_of_that_one(tmp_path, head):
    """A comparison trains one student after the other with one source."""
    source, batch = EmaTeacher(0.9), default_collate(examples(head))
    for seed, wider in ((1, {}), (2, {"n_embd": 32} if head == "causal_lm" else {"hidden_size": 32})):
        student = tiny_model(head, seed=seed, **wider)
        source.attach_student(student)
        source.attach(head=head, accelerator=None)
        rows = select_rows(head, batch)
        expected = LiveTeacher(copy.deepcopy(student)).row_logits(batch, rows)
        torch.testing.assert_close(source.row_logits(batch, rows), expected)


def test_running_statistics_are_copied_and_not_averaged():
    student = image_model("resnet").train()
    average = Average(student)
    student(**image_batch())
    average.follow(student, decay=0.9)
    assert all(torch.equal(*pair) for pair in zip(average.model.buffers(), student.buffers(), strict=True))
    assert any(name.endswith("running_mean") and buffer.any() for name, buffer in student.named_buffers())


def test_a_student_in_half_precision_has_an_average_in_float32():
    """At a decay of 0.999 a step would be lost in the rounding of bfloat16."""
    student = tiny_model("classification").to(torch.bfloat16)
    average = Average(student)
    with torch.no_grad():
        student.classifier.weight.fill_(1.0)
        before = average.model.classifier.weight.clone()
    average.follow(student, decay=0.999)
    moved = average.model.classifier.weight - before
    torch.testing.assert_close(moved, 0.001 * (1.0 - before), rtol=1e-3, atol=1e-7)


def test_tied_weights_stay_tied_and_are_kept_once(tmp_path):
    student = tiny_model("masked_lm")
    average = Average(student)
    average.follow(student, decay=0.5)
    embeddings = average.model.get_input_embeddings().weight
    assert average.model.get_output_embeddings().weight is embeddings
    average.save(tmp_path)
    stored = load_file(tmp_path / "ema_teacher.safetensors")
    assert sum(tensor.shape == embeddings.shape for tensor in stored.values()) == 1


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_a_saved_average_reads_back_bitwise(tmp_path, head):
    student = tiny_model(head)
    average = Average(student)
    average.follow(tiny_model(head, seed=4), decay=0.3)
    average.save(tmp_path)
    other = Average(student)
    other.load(tmp_path)
    assert torch.equal(flat_weights(other.model), flat_weights(average.model))
    assert other.updates == average.updates == 1


def test_the_average_of_another_student_is_refused(tmp_path):
    average = Average(tiny_model("classification"))
    with pytest.raises(ValueError, match=r"has no ema_teacher.safetensors: its run had no moving average"):
        average.load(tmp_path)
    average.save(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another student"):
        Average(tiny_model("classification", hidden_size=8)).load(tmp_path)


def test_a_resumed_run_goes_on_with_the_number_of_updates(tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole, _, _ = run(tmp_path, EmaTeacher(0.99), **saved)
    resumed = distill_trainer(tmp_path, teacher=EmaTeacher(0.99), curriculum=MIXED, **saved)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.teacher.state.updates == 6
    assert torch.equal(flat_weights(resumed.teacher.model), flat_weights(whole.teacher.model))


def test_gradients_of_the_student_are_no_part_of_the_copy():
    student = tiny_model("classification")
    student(**{key: torch.stack([row[key] for row in examples("classification")]) for key in ("input_ids", "labels")})[
        "loss"
    ].backward()
    average = Average(student)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in average.model.parameters())
    assert all(parameter.grad is not None for parameter in student.classifier.parameters())
    assert torch.equal(flat_weights(average.model), flat_weights(copy.deepcopy(student)))


def test_the_pin_is_that_of_the_rule():
    commits = {EmaTeacher(*args).revisions[0].commit for args in ((0.9,), (0.99,))}
    assert len(commits) == 2
    assert EmaTeacher(0.9).revisions[0].commit in commits
    assert EmaTeacher(0.9, warmup=False).revisions[0].commit not in commits


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay: expected a number from 0 to below 1"):
        EmaTeacher(decay)
