"""What decides a number: head, teacher, curriculum and loss of a run, without the training loop."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from builders import HEADS, examples, save_teacher_run, tiny_model, word_tokenizer
from torch.utils.data import default_collate

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.distillation import Distillation, Student
from hf_distill.models.outputs import logits_of
from hf_distill.reading.signals import TARGET_KEYS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def batch_of(head: str, count: int = 4) -> dict[str, torch.Tensor]:
    return default_collate(examples(head, count=count))


def student_of(model: torch.nn.Module) -> Student:
    return Student(model, model, frozenset(inspect.signature(model.forward).parameters))


class Run:
    """A distillation with its student, begun at step 0 of 10."""

    def __init__(self, head: str, accelerator: Accelerator, curriculum: Any = "one_shot", teacher: Any = None) -> None:
        spec = {"name": curriculum} if isinstance(curriculum, str) else curriculum
        source = None if spec["name"] == "labels" else teacher or LiveTeacher(tiny_model(head, seed=7))
        self.model = tiny_model(head, seed=1)
        self.distillation = Distillation(
            head=head, curriculum=spec, teacher=source, accelerator=accelerator, student=self.model
        )
        self.distillation.check_student(self.model.config, None)
        self.distillation.begin(step=0, max_steps=10)

    def loss(self, batch: dict[str, torch.Tensor], *, step: int = 0, scale: int = 1) -> torch.Tensor:
        self.distillation.loss.count_window([batch], CPU)
        loss, _ = self.distillation.training_loss(student_of(self.model), batch, step=step, scale=scale)
        return loss

    def parts(self) -> dict[str, float]:
        return self.distillation.log.flush(self.distillation.accelerator)


# ---- construction ----


def test_a_curriculum_with_a_teacher_needs_one(accelerator):
    with pytest.raises(ValueError, match="the curriculum 'one_shot' learns from a teacher; pass `teacher`, or use"):
        Distillation(head="masked_lm", curriculum={"name": "one_shot"}, teacher=None, accelerator=accelerator)


def test_labels_leave_a_given_teacher_alone(accelerator):
    source = LiveTeacher(tiny_model("masked_lm"))
    made = Distillation(head="masked_lm", curriculum={"name": "labels"}, teacher=source, accelerator=accelerator)
    assert made.teacher is None


def test_a_typo_in_the_curriculum_is_found_at_construction(accelerator):
    source = LiveTeacher(tiny_model("masked_lm"))
    with pytest.raises(ValueError, match=r"Unknown curriculum 'one_shoot'. Did you mean 'one_shot'"):
        Distillation(head="masked_lm", curriculum={"name": "one_shoot"}, teacher=source, accelerator=accelerator)


def test_nothing_is_laid_out_before_training_begins(accelerator):
    made = Distillation(head="masked_lm", curriculum={"name": "labels"}, teacher=None, accelerator=accelerator)
    with pytest.raises(ValueError, match=r"laid out when training begins; call train\(\) first"):
        made.stage_at(0)


# ---- the loss ----


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_that_is_the_student_leaves_nothing_to_learn(accelerator, head):
    run = Run(head, accelerator, teacher=LiveTeacher(tiny_model(head, seed=1)))
    assert run.loss(batch_of(head)).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_training_and_evaluation_mean_the_same_loss_with_labels(accelerator, head):
    run, batch = Run(head, accelerator, "labels"), batch_of(head)
    inputs = {key: value for key, value in run.distillation.reader.positioned(batch).items() if key not in TARGET_KEYS}
    logits = logits_of(run.model(**inputs), batch["attention_mask"])
    assert run.loss(batch).item() == pytest.approx(run.distillation.loss.of_labels(logits, batch).item(), rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_a_mix_is_the_weighted_sum_of_its_parts(accelerator, head):
    run = Run(head, accelerator, {"name": "one_shot", "label_mix": 0.25})
    loss = run.loss(batch_of(head)).item()
    teacher, labels = run.parts().values()
    assert loss == pytest.approx(0.75 * teacher + 0.25 * labels, rel=1e-6)


def test_parts_are_logged_under_their_terms_name(accelerator):
    run = Run("masked_lm", accelerator, {"name": "one_shot", "label_mix": 0.25})
    run.loss(batch_of("masked_lm"))
    assert list(run.parts()) == ["objective/forward_kl", "objective/labels"]


def test_averaging_over_ranks_is_undone(accelerator):
    run, batch = Run("masked_lm", accelerator), batch_of("masked_lm")
    assert run.loss(batch, scale=4).item() == pytest.approx(4 * run.loss(batch).item(), rel=1e-6)


def test_a_window_is_divided_by_the_items_of_all_its_batches(accelerator):
    run = Run("masked_lm", accelerator)
    whole = batch_of("masked_lm")
    halves = [{key: value[part] for key, value in whole.items()} for part in (slice(0, 2), slice(2, 4))]
    expected = run.loss(whole).item()
    run.distillation.loss.count_window(halves, CPU)
    student = student_of(run.model)
    parts = [run.distillation.training_loss(student, half, step=0, scale=1)[0].item() for half in halves]
    assert sum(parts) == pytest.approx(expected, rel=1e-6)


def test_progress_moves_weights_and_temperatures(accelerator):
    ramp = {"name": "linear", "start": 0.0, "stop": 1.0}
    run = Run("masked_lm", accelerator, {"name": "one_shot", "label_mix": ramp, "temperature": 2.0})
    batch = batch_of("masked_lm")
    loss = run.loss(batch, step=5).item()
    parts = run.parts()
    assert loss == pytest.approx(0.5 * parts["objective/forward_kl"] + 0.5 * parts["objective/labels"], rel=1e-6)
    assert run.distillation.describe_step(5) == {
        "curriculum/stage": 0.0,
        "teacher/revision": 0.0,
        "weight/forward_kl": 0.5,
        "temperature/forward_kl": 2.0,
        "weight/labels": 0.5,
    }


def test_distillation_needs_no_labels(accelerator):
    run, batch = Run("masked_lm", accelerator), batch_of("masked_lm")
    del batch["labels"]
    loss = run.loss(batch)
    loss.backward()
    assert loss.item() > 0.0


def test_a_batch_without_labels_is_refused_where_labels_are_learnt(accelerator):
    run, batch = Run("classification", accelerator, "labels"), batch_of("classification")
    del batch["labels"]
    with pytest.raises(ValueError, match="compares with labels, but the batch has no `labels`"):
        run.loss(batch)


def test_the_student_computes_no_loss_of_its_own(accelerator):
    """A model that gets labels computes its own loss only to have it thrown away."""

    class Listening(torch.nn.Module):
        def forward(self, **inputs):
            self.heard = set(inputs)
            return model(**inputs)

    run, batch, wrapper = Run("causal_lm", accelerator), batch_of("causal_lm"), Listening()
    model = run.model
    run.distillation.loss.count_window([batch], CPU)
    student = student_of(model)._replace(wrapper=wrapper)
    run.distillation.training_loss(student, {**batch, "index": torch.zeros(4)}, step=0, scale=1)
    assert wrapper.heard == {"input_ids", "attention_mask", "position_ids"}


def test_label_smoothing_reaches_the_labels(accelerator):
    sharp, smooth = (
        Distillation(
            head="classification",
            curriculum={"name": "labels"},
            teacher=None,
            accelerator=accelerator,
            label_smoothing=smoothing,
        )
        for smoothing in (0.0, 0.2)
    )
    batch, logits = batch_of("classification"), torch.randn(4, 3)
    assert sharp.loss.of_labels(logits, batch).item() != pytest.approx(
        smooth.loss.of_labels(logits, batch).item(), rel=1e-3
    )


# ---- stages and revisions ----


@pytest.fixture
def sequence(tmp_path) -> TeacherSequence:
    return TeacherSequence(save_teacher_run(tmp_path / "teacher"))


TWO_SHOT = {"name": "two_shot", "revision": "checkpoint-10", "steps": 4}


def test_the_teacher_of_a_step_is_the_revision_of_its_stage(accelerator, sequence):
    run = Run("classification", accelerator, TWO_SHOT, sequence)
    batch = batch_of("classification")
    losses = [run.loss(batch, step=step).item() for step in (3, 4)]
    for seed, loss in zip((10, 30), losses, strict=True):
        live = Run("classification", accelerator, "one_shot", LiveTeacher(tiny_model("classification", seed=seed)))
        assert loss == pytest.approx(live.loss(batch).item(), rel=1e-5)


def test_a_step_back_brings_the_earlier_revision_back(accelerator, sequence):
    run, batch = Run("classification", accelerator, TWO_SHOT, sequence), batch_of("classification")
    first = run.loss(batch, step=0).item()
    run.loss(batch, step=9)
    assert run.loss(batch, step=0).item() == first


def test_a_run_that_begins_late_begins_with_its_revision(accelerator, sequence):
    made = Distillation(head="classification", curriculum=TWO_SHOT, teacher=sequence, accelerator=accelerator)
    made.begin(step=6, max_steps=10)
    assert sequence.current == 2


def test_waiting_for_a_revision_is_recorded_once(accelerator, sequence):
    run, batch = Run("classification", accelerator, TWO_SHOT, sequence), batch_of("classification")
    for step in range(10):
        run.loss(batch, step=step)
    assert len(run.distillation.log.stalls) == 2


def test_people_read_the_stage_and_the_revision(accelerator, sequence):
    made = Run("classification", accelerator, TWO_SHOT, sequence).distillation
    assert made.stage_name(0) == "checkpoint-10"
    assert made.stage_name(4) == "final (checkpoint-30)"
    assert Run("classification", accelerator, "labels").distillation.stage_name(0) == "labels"


def test_the_log_says_which_teacher_step_teaches(accelerator, sequence):
    made = Run("classification", accelerator, TWO_SHOT, sequence).distillation
    assert made.describe_step(0)["teacher/step"] == 10.0
    assert made.describe_step(4)["teacher/step"] == 30.0
    assert made.describe_step(4)["curriculum/stage"] == 1.0


def test_auto_is_replaced_by_the_chosen_revision(accelerator, sequence):
    made = Distillation(
        head="classification", curriculum={"name": "two_shot", "steps": 4}, teacher=sequence, accelerator=accelerator
    )
    with pytest.raises(ValueError, match="`auto` must be resolved"):
        made.make_plan(10)
    made.chosen_revision = "checkpoint-20"
    assert [stage.name for stage in made.make_plan(10).stages] == ["checkpoint-20", "final"]


def test_recorded_switches_of_an_adaptive_run_are_taken_up(accelerator, sequence):
    spec = {"name": "adaptive", "level": 0.6}
    made = Distillation(head="classification", curriculum=spec, teacher=sequence, accelerator=accelerator)
    made.begin(step=8, max_steps=10, switches=[3, 7])
    assert made.stage_at(8).name == "final"
    assert sequence.current == 2


def test_a_fixed_plan_does_not_take_up_switches(accelerator, sequence):
    made = Distillation(head="classification", curriculum=TWO_SHOT, teacher=sequence, accelerator=accelerator)
    made.begin(step=0, max_steps=10, switches=[9])
    assert made.plan.switches == [4]


def test_a_second_student_reads_ahead_from_a_teacher_that_is_there_already(accelerator, sequence):
    """The first revision is current, so that nothing is waited for; the next one must be read ahead all the same."""
    asked: list[int] = []

    class Watched(TeacherSequence):
        def read_ahead(self, index: int) -> None:
            asked.append(index)

    watched = Watched(sequence.spec)
    watched.attach(head="classification", accelerator=accelerator)
    watched.enter(0)
    made = Distillation(head="classification", curriculum=TWO_SHOT, teacher=watched, accelerator=accelerator)
    made.begin(step=0, max_steps=10)
    assert asked == [2]


# ---- vocabularies ----


def test_a_student_of_another_vocabulary_is_refused(accelerator):
    teacher = LiveTeacher(tiny_model("masked_lm"), tokenizer=word_tokenizer("a", "b"))
    made = Distillation(head="masked_lm", curriculum={"name": "one_shot"}, teacher=teacher, accelerator=accelerator)
    with pytest.raises(ValueError, match="different tokenizers"):
        made.check_student(tiny_model("masked_lm").config, word_tokenizer("b", "a"))
