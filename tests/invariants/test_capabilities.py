"""Invariant 4: what objectives need must be in what the teacher provides, checked at construction; no more is run."""

from __future__ import annotations

import pytest
import torch
from builders import distill_trainer, examples, tiny_model

from hf_distill import LiveTeacher


class Mute(LiveTeacher):
    """A source that provides nothing, as one whose stored targets are of another kind."""

    provides = frozenset({"teacher.something_else"})


class Counting(LiveTeacher):
    """Counts the teacher's forwards."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        self.forwards = 0
        model.register_forward_hook(self._count)

    def _count(self, *call) -> None:
        self.forwards += 1


def test_a_source_that_lacks_logits_is_refused_with_what_is_missing(tmp_path):
    with pytest.raises(
        ValueError, match=r"need \['teacher.logits'\], but Mute provides only \['teacher.something_else'\]"
    ):
        distill_trainer(tmp_path, teacher=Mute(tiny_model("classification")))


def test_a_refusal_comes_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="provides only"):
        distill_trainer(tmp_path / "run", teacher=Mute(tiny_model("classification")))
    assert not any((tmp_path / "run").glob("*"))


def test_labels_need_no_teacher_and_run_none(tmp_path):
    teacher = Counting(tiny_model("classification", seed=7))
    distill_trainer(tmp_path, teacher=teacher, curriculum="labels").train()
    assert teacher.forwards == 0


def test_objectives_without_a_teacher_run_none(tmp_path):
    teacher = Counting(tiny_model("classification", seed=7))
    curriculum = {"name": "one_shot", "objectives": [{"name": "cross_entropy"}]}
    distill_trainer(tmp_path, teacher=teacher, curriculum=curriculum).train()
    assert teacher.forwards == 0


def test_the_teacher_runs_once_a_micro_batch_and_never_in_evaluation(tmp_path):
    teacher = Counting(tiny_model("classification", seed=7))
    trainer = distill_trainer(
        tmp_path,
        teacher=teacher,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=2,
        eval_dataset=examples("classification"),
        eval_strategy="steps",
        eval_steps=1,
        # Two terms need the same logits.
        curriculum={"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "forward_kl", "label": "b"}]},
    )
    trainer.train()
    assert teacher.forwards == 4


def test_neither_model_computes_hidden_states_or_attentions_that_nobody_reads(tmp_path):
    teacher, student = tiny_model("classification", seed=7), tiny_model("classification", seed=1)
    seen = []
    for model in (teacher, student):
        model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    distill_trainer(tmp_path, model=student, teacher=teacher, max_steps=1).train()
    assert len(seen) == 2
    assert all(output.hidden_states is None and output.attentions is None for output in seen)
    assert all(output.loss is None for output in seen)


def test_every_stage_of_a_curriculum_is_checked_and_not_only_the_first(tmp_path):
    spec = {"name": "two_shot", "revision": "final", "steps": 2, "objectives": [{"name": "mean_squared_error"}]}
    with pytest.raises(ValueError, match="'mean_squared_error' does not fit a classification head"):
        distill_trainer(tmp_path, teacher=tiny_model("classification"), curriculum=spec)
