"""How good a model is on held-out data, how closely it follows the teacher, whether its confidence can be believed.

Everything goes through the trainer and its signals, so that every head is measured as it is trained.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback

from hf_distill.analysis.fidelity import CalibrationTally, FidelityTally
from hf_distill.analysis.latency import accepted_names
from hf_distill.evaluation.held_out import classes_in_order, evaluating_trainer
from hf_distill.pipeline.final_metrics import final_metrics
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.reading.signal_reader import Student
from hf_distill.reading.signals import Signals
from hf_distill.teachers import TeacherSource
from hf_distill.trainer import ProgressiveDistillTrainer


class Quality(NamedTuple):
    """What was found on held-out data; None where it is not defined (see `ModelResult`)."""

    metrics: dict[str, float]
    fidelity: dict[str, Any] | None
    calibration: dict[str, Any] | None


def quality_of(run: FinishedRun, model: PreTrainedModel, *, reference: TeacherSource | None) -> Quality:
    """Measure a model on all held-out data.

    Args:
        run: Its run.
        model: The model.
        reference: Whom to compare it with, attached; None for the reference itself.

    Raises:
        ValueError: Model, reference and data do not fit together.
    """
    with tempfile.TemporaryDirectory() as scratch:
        trainer = evaluating_trainer(run, model, reference, Path(scratch))
        # Without a bar of its own the Trainer would print every result.
        trainer.remove_callback(PrinterCallback)
        with classes_in_order(run, model):
            metrics = final_metrics(trainer, run.data.further)
            metrics.pop("epoch", None)
            return Quality(metrics, *_rows(trainer, reference))


def placed(model: Any, device: torch.device) -> Any:
    """Return a model on a device; one that is there stays as it is, quantised weights and offloaded ones too."""
    return model if next(model.parameters()).device == device else model.to(device)


def trains_no_more(model: PreTrainedModel) -> bool:
    """Whether the Trainer refuses a model, in evaluation too: its weights are quantised."""
    return "quantization_config" in model.config.to_dict()


@torch.no_grad()
def _rows(
    trainer: ProgressiveDistillTrainer, reference: TeacherSource | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return fidelity and calibration over the rows that count."""
    distillation = trainer.distillation
    distillation.begin(step=0, max_steps=1)
    model: Any = trainer.model
    student = Student(model.eval(), model, accepted_names(model))
    followed = None if reference is None else _Following(distillation.head == "regression")
    calibrated = CalibrationTally() if distillation.head != "regression" else None
    for batch in trainer.get_eval_dataloader():
        (signals, *_), _ = distillation.reader.logits(
            student, batch, stage=distillation.stage_at(0), needs_teacher=reference is not None
        )
        if followed is not None:
            followed.add(signals)
        if calibrated is not None and signals.labels is not None:
            calibrated.add(*signals.labelled())
    calibration = calibrated.info()._asdict() if calibrated is not None and calibrated.rows else None
    if calibration is not None:
        calibration = {key: calibration[key] for key in ("rows", "accuracy", "confidence", "error")}
    return (None if followed is None else followed.found()), calibration


class _Following:
    """Adds up how far a model is from the reference: divergences of classes, squared errors of regressions."""

    def __init__(self, regression: bool) -> None:
        self._classes = None if regression else FidelityTally()
        self._squares, self._values = 0.0, 0

    def add(self, signals: Signals) -> None:
        student, teacher = signals.pair()
        if self._classes is not None:
            self._classes.add(student, teacher)
            return
        self._squares += _squared_error(student, teacher)
        self._values += student.numel()

    def found(self) -> dict[str, Any]:
        if self._classes is not None:
            return self._classes.info()._asdict()
        return {"rows": self._values, "squared_error": self._squares / max(self._values, 1)}


def _squared_error(student: Tensor, teacher: Tensor) -> float:
    return float((student.double() - teacher.double().view_as(student)).square().sum())
