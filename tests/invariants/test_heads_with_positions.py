"""Tags, answers and translations: the loss is the one written by hand, whatever the padding, and plain Trainer's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import distill_config, distill_trainer
from heads_two_ranks import CURRICULUM, HEADS, collate, model_of, step_of, unpadded
from tiers import mostly_slow
from torch import Tensor
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainingArguments
from updates import assert_same_update, flat_weights

from hf_distill import LiveTeacher
from hf_distill.reading.signal_reader import Student

EVERY_NAME = pytest.mark.parametrize("name", mostly_slow(HEADS, quick=("question_answering", "t5").__contains__))
BEFORE = {"t5": 0, "marian": 0, "bart": 0}
SPLITS = [(2, 4), (1, 8)]


@EVERY_NAME
def test_accumulation_over_batches_of_unequal_widths_does_not_change_the_update(tmp_path, name):
    whole = step_of(name, tmp_path, micro_batch=8, accumulation=1)
    for micro_batch, accumulation in SPLITS:
        part = step_of(name, tmp_path, micro_batch=micro_batch, accumulation=accumulation)
        assert_same_update(whole["update"], part["update"])
        assert part["loss"].item() == pytest.approx(whole["loss"].item(), rel=1e-5)


# ---- by hand ----


def inputs_by_hand(name: str, item: dict[str, Tensor]) -> dict[str, Tensor]:
    """One example alone, as its model reads it, with nothing of the package."""
    given = {key: item[key][None] for key in ("input_ids", "attention_mask")}
    if HEADS[name] == "seq2seq_lm":
        given["decoder_input_ids"] = torch.tensor([[BEFORE[name], *item["labels"].tolist()[:-1]]])
    return given


def rows_by_hand(name: str, model: PreTrainedModel, item: dict[str, Tensor]) -> list[tuple[list[float], int]]:
    """Logits and label of each row of an example."""
    with torch.no_grad():
        output = model(**inputs_by_hand(name, item))
    if HEADS[name] == "question_answering":
        ends = [(output.start_logits, item["start_positions"]), (output.end_logits, item["end_positions"])]
        return [(logits[0].tolist(), int(label)) for logits, label in ends if label < len(item["input_ids"])]
    pairs = zip(output.logits[0].tolist(), item["labels"].tolist(), strict=True)
    return [(logits, label) for logits, label in pairs if label != -100]


def log_softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    scaled = [logit / temperature for logit in logits]
    peak = max(scaled)
    total = math.fsum(math.exp(logit - peak) for logit in scaled)
    return [logit - peak - math.log(total) for logit in scaled]


def loss_by_hand(
    name: str, student: PreTrainedModel, teacher: PreTrainedModel, data: list[dict[str, Tensor]]
) -> float:
    """0.3 · CE + 0.7 · KL(teacher/2 ‖ student), the mean over all rows."""
    values = []
    for item in data:
        both = zip(rows_by_hand(name, student, item), rows_by_hand(name, teacher, item), strict=True)
        for (ours, label), (theirs, _) in both:
            log_q, log_p = log_softmax(ours), log_softmax(theirs, 2.0)
            kl = math.fsum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True))
            values.append(-0.3 * log_q[label] + 0.7 * kl)
    return math.fsum(values) / len(values)


def dense_loss(name: str, student: PreTrainedModel, teacher: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """The same with torch's own functions on the logits of all positions, for autograd."""
    given = {key: batch[key] for key in ("input_ids", "attention_mask")}
    if HEADS[name] == "seq2seq_lm":
        before = torch.full_like(batch["labels"][:, :1], BEFORE[name])
        given["decoder_input_ids"] = torch.cat([before, batch["labels"][:, :-1].clamp(min=0)], dim=1)
    mine, theirs = student(**given), teacher(**given)
    if HEADS[name] != "question_answering":
        sides = [(mine.logits.flatten(0, 1), theirs.logits.flatten(0, 1), batch["labels"].flatten())]
    else:
        hidden = batch["attention_mask"] == 0
        sides = [
            (
                mine[f"{end}_logits"].masked_fill(hidden, -1e9),
                theirs[f"{end}_logits"].masked_fill(hidden, -1e9),
                batch[f"{end}_positions"].where(batch[f"{end}_positions"] < batch["attention_mask"].sum(1), -100),
            )
            for end in ("start", "end")
        ]
    ours, others, labels = (torch.cat(parts) for parts in zip(*sides, strict=True))
    kept = labels != -100
    targets = (others[kept] / 2.0).softmax(-1).detach()
    kl = F.kl_div(ours[kept].log_softmax(-1), targets, reduction="batchmean")
    return 0.3 * F.cross_entropy(ours, labels) + 0.7 * kl


@pytest.mark.parametrize("whole", [False, True], ids=["in tiles", "whole"])
@EVERY_NAME
def test_the_loss_and_its_gradient_are_those_written_by_hand(tmp_path, name, whole):
    """In float64, though T5 takes its norms and its attention in float32, and tiles 1 ÷ items.

    A tied head's weight has a gradient from either side.
    """
    student, teacher = model_of(name, seed=1).double(), model_of(name, seed=7, wide=True).double()
    data = unpadded(name)
    trainer = distill_trainer(tmp_path, model=student, teacher=teacher, curriculum=CURRICULUM, train_dataset=data)
    run, batch = trainer.distillation, collate(data)
    run.reader.whole_logits = whole
    run.begin(step=0, max_steps=1)
    run.count_window([batch], torch.device("cpu"))
    given = Student(student, student, trainer._student_arguments)
    found = run.training_loss(given, batch, step=0, scale=1)[0]
    rounding = 1e-6 if name == "t5" else 1e-7 if run.reader.row_head(given) is not None else 1e-12
    assert found.item() == pytest.approx(loss_by_hand(name, student, teacher, data), rel=rounding)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    gradients = [torch.autograd.grad(loss, parameters) for loss in (found, dense_loss(name, student, teacher, batch))]
    ours, expected = (torch.cat([gradient.flatten() for gradient in one]) for one in gradients)
    assert ((ours - expected).norm() / expected.norm()).item() < rounding


# ---- plain Trainer ----


def plain_update(name: str, folder: Path, data: list[dict[str, Tensor]]) -> Tensor:
    model = model_of(name, seed=1)
    before = flat_weights(model)
    keys = ("use_cpu", "report_to", "disable_tqdm", "save_strategy", "optim", "max_grad_norm", "lr_scheduler_type")
    values = {key: vars(distill_config(folder))[key] for key in keys}
    args = TrainingArguments(
        str(folder), **values, max_steps=1, learning_rate=1.0, per_device_train_batch_size=len(data)
    )
    Trainer(model=model, args=args, train_dataset=data, data_collator=collate).train()
    return flat_weights(model) - before


@EVERY_NAME
def test_with_labels_the_update_is_plain_trainers(tmp_path, name):
    """Of texts of one length: transformers' answers have a share in padding, ours have none."""
    data = unpadded(name)
    if HEADS[name] == "question_answering":
        data = [item for item in data if len(item["input_ids"]) == 7 and item["end_positions"] < 7] * 4
        assert len(data) >= 4
    trainer = distill_trainer(
        tmp_path / "ours",
        model=model_of(name, seed=1),
        train_dataset=data,
        data_collator=collate,
        max_steps=1,
        learning_rate=1.0,
        per_device_train_batch_size=len(data),
    )
    before = flat_weights(trainer.model)
    trainer.train()
    assert_same_update(plain_update(name, tmp_path / "plain", data), flat_weights(trainer.model) - before)


# ---- evaluation ----


class CountedTeacher(LiveTeacher):
    """A teacher that counts its forwards."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.forwards = 0
        model.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.forwards += 1


@EVERY_NAME
def test_the_teacher_does_not_run_in_evaluation_and_metrics_get_predictions(tmp_path, name):
    seen: list[EvalPrediction] = []

    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        seen.append(prediction)
        return {"count": float(len(prediction.label_ids[0] if answers else prediction.label_ids))}

    answers, data = HEADS[name] == "question_answering", unpadded(name)
    teacher = CountedTeacher(model_of(name, seed=7, wide=True))
    trainer = distill_trainer(
        tmp_path,
        model=model_of(name, seed=1),
        teacher=teacher,
        train_dataset=data,
        eval_dataset=data,
        data_collator=collate,
        compute_metrics=metrics,
        per_device_eval_batch_size=3,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    assert teacher.forwards == 2
    assert [entry["eval_count"] for entry in trainer.state.log_history if "eval_count" in entry] == [8.0, 8.0]
    predictions, labels = seen[-1].predictions, seen[-1].label_ids
    if answers:
        assert labels[0].tolist() == [int(item["start_positions"]) for item in data]
        assert [len(part) for part in predictions] == [8, 8]
        return
    rows = [rows_by_hand(name, trainer.model.eval(), item) for item in data]
    found = predictions[labels != -100]
    assert np.allclose(found, np.array([logits for one in rows for logits, _ in one]), rtol=1e-4, atol=1e-5)
    assert labels[labels != -100].tolist() == [label for one in rows for _, label in one]


# ---- smoothing ----


@pytest.mark.parametrize("name", ["t5", "token_classification"])
def test_label_smoothing_reaches_only_the_labels(tmp_path, name):
    def parts(smoothing: float) -> dict[str, float]:
        trainer = distill_trainer(
            tmp_path,
            model=model_of(name, seed=1),
            teacher=model_of(name, seed=7),
            curriculum=CURRICULUM,
            train_dataset=unpadded(name),
            data_collator=collate,
            label_smoothing_factor=smoothing,
            max_steps=1,
        )
        trainer.train()
        return trainer.state.log_history[0]

    plain, smooth = parts(0.0), parts(0.1)
    assert plain["objective/forward_kl"] == smooth["objective/forward_kl"]
    assert plain["objective/labels"] != pytest.approx(smooth["objective/labels"], rel=1e-5)


def test_smoothing_over_padded_positions_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"labels: label smoothing 0\.1 would spread an answer's label over all posit"
    ):
        distill_trainer(tmp_path, model=model_of("question_answering", seed=1), label_smoothing_factor=0.1)
