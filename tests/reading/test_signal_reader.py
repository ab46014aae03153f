"""The forwards of a step: who is called how often, with what, and what the objectives get to see."""

from __future__ import annotations

import pytest
import torch
from builders import HEADS, examples, tiny_model

from hf_distill.curricula import Stage
from hf_distill.loss.loss_log import LossLog
from hf_distill.models.outputs import logits_of
from hf_distill.reading.signal_reader import SignalReader, Student
from hf_distill.reading.signals import TARGET_KEYS, TOKEN_HEADS, select_rows
from hf_distill.teachers import LiveTeacher

CPU = torch.device("cpu")
ACCEPTED = frozenset({"input_ids", "attention_mask", "position_ids", "decoder_input_ids", "labels"})


def batch_of(head: str, count: int = 4) -> dict[str, torch.Tensor]:
    items = examples(head, count=count)
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def stage_of(passes: int = 1, mode: str = "loop") -> Stage:
    return Stage(name="stage", terms=(), passes=passes, pass_mode=mode)


def student_of(head: str, **overrides) -> Student:
    model = tiny_model(head, seed=1, **overrides).train()
    return Student(model, model, ACCEPTED)


def reader_of(head: str, teacher: LiveTeacher | None = None) -> SignalReader:
    reader = SignalReader(head=head, teacher=teacher, log=LossLog(), device=CPU)
    reader.student = tiny_model(head)
    return reader


def arguments_seen(model: torch.nn.Module) -> list[dict]:
    seen: list[dict] = []
    model.register_forward_pre_hook(lambda _module, _args, kwargs: seen.append(kwargs), with_kwargs=True)
    return seen


@pytest.mark.parametrize("head", HEADS)
def test_the_student_is_called_without_labels_or_foreign_columns(head):
    student = student_of(head)
    seen = arguments_seen(student.wrapper)
    reader_of(head).logits(student, {**batch_of(head), "row": torch.arange(4)}, stage=stage_of(), needs_teacher=False)
    (given,) = seen
    assert TARGET_KEYS.isdisjoint(given) and "row" not in given
    assert ("decoder_input_ids" in given) == (head == "seq2seq_lm")
    assert ("position_ids" in given) == (head == "causal_lm")


def test_the_model_is_called_through_its_wrapper():
    model = tiny_model("classification")
    wrapper = torch.nn.Module()
    wrapper.inner = model
    calls = []
    wrapper.forward = lambda **inputs: calls.append(1) or model(**inputs)
    student = Student(wrapper, model, ACCEPTED)
    reader_of("classification").logits(student, batch_of("classification"), stage=stage_of(2), needs_teacher=False)
    assert len(calls) == 2


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("mode", "forwards", "rows"), [("loop", 3, 4), ("repeat", 1, 12)])
def test_passes_are_forwards_of_the_same_batch(head, mode, forwards, rows):
    student = student_of(head)
    seen = arguments_seen(student.wrapper)
    signals, logits = reader_of(head).logits(student, batch_of(head), stage=stage_of(3, mode), needs_teacher=False)
    assert len(seen) == forwards
    assert all(len(given["input_ids"]) == rows for given in seen)
    # A vocabulary's logits of all positions exist only where one forward holds all passes.
    assert logits is None if head in TOKEN_HEADS and mode == "loop" else len(logits) == 4
    assert len(signals) == 3
    assert all(one.student_passes.shape == (3, *one.student_logits.shape) for one in signals)
    for index, one in enumerate(signals):
        assert torch.equal(one.student_passes[index], one.student_logits)


@pytest.mark.parametrize("head", HEADS)
def test_a_pass_of_the_repeated_batch_holds_the_rows_of_its_examples(head):
    """Without dropout every pass is the forward of the batch itself, row by row."""
    student, batch = student_of(head), batch_of(head)
    one = reader_of(head).logits(student, batch, stage=stage_of(), needs_teacher=False)[0][0]
    for mode in ("loop", "repeat"):
        signals, _ = reader_of(head).logits(student, batch, stage=stage_of(3, mode), needs_teacher=False)
        for found in signals:
            torch.testing.assert_close(found.student_logits, one.student_logits, rtol=1e-5, atol=1e-5)
            assert torch.equal(found.labels, one.labels)


def test_one_pass_does_not_look_like_several():
    signals, _ = reader_of("classification").logits(
        student_of("classification"), batch_of("classification"), stage=stage_of(1, "repeat"), needs_teacher=False
    )
    assert signals[0].student_passes is None
    assert signals[0].teacher_logits is None


@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_passes_draw_their_own_dropout(mode):
    student = student_of("classification", hidden_dropout_prob=0.3)
    signals, _ = reader_of("classification").logits(
        student, batch_of("classification"), stage=stage_of(2, mode), needs_teacher=False
    )
    passes = signals[0].student_passes
    assert ((passes[0] - passes[1]).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_the_teacher_is_asked_once_for_all_passes_and_of_the_same_rows(head, mode):
    model = tiny_model(head, seed=7)
    seen = arguments_seen(model)
    batch = batch_of(head)
    teacher = LiveTeacher(model)
    signals, _ = reader_of(head, teacher).logits(student_of(head), batch, stage=stage_of(3, mode), needs_teacher=True)
    assert len(seen) == 1
    assert len(seen[0]["input_ids"]) == 4
    with torch.no_grad():
        expected = logits_of(model(**seen[0]), batch["attention_mask"])
    expected = select_rows(head, batch).of(expected)
    for one in signals:
        assert one.teacher_logits is signals[0].teacher_logits
        torch.testing.assert_close(one.teacher_logits, expected, rtol=1e-6, atol=1e-6)
        assert not one.teacher_logits.requires_grad


def test_a_teacher_that_nobody_needs_does_not_run():
    model = tiny_model("classification", seed=7)
    seen = arguments_seen(model)
    reader = reader_of("classification", LiveTeacher(model))
    signals, _ = reader.logits(
        student_of("classification"), batch_of("classification"), stage=stage_of(), needs_teacher=False
    )
    assert seen == []
    assert signals[0].teacher_logits is None


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_the_gradient_reaches_every_pass(head, mode):
    student = student_of(head)
    signals, _ = reader_of(head).logits(student, batch_of(head), stage=stage_of(3, mode), needs_teacher=False)
    passes = signals[0].student_passes
    passes.retain_grad()
    passes.square().sum().backward()
    assert (passes.grad.flatten(1).norm(dim=1) > 0).all()
    assert all(p.grad is not None for name, p in student.inner.named_parameters() if "embeddings.word" in name)


def test_the_batch_is_not_written_to():
    batch = batch_of("causal_lm")
    before = {key: value.clone() for key, value in batch.items()}
    reader_of("causal_lm").logits(student_of("causal_lm"), batch, stage=stage_of(2, "repeat"), needs_teacher=False)
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[key], before[key]) for key in before)
