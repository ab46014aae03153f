"""The noisy-sinusoid toy of Continuation-KD (Jafari et al. 2022, arXiv 2212.05998): a right but noisy teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSequenceClassification, EvalPrediction, PreTrainedConfig, PreTrainedModel

from hf_distill.reading.signals import Head
from hf_distill.tasks.base import TASKS, Task, TaskData
from hf_distill.tasks.batches import BatchCollator, BatchDataset
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.model_building import AutoClass
from hf_distill.tasks.sinusoid_model import (
    NoisySinusoidConfig,
    NoisySinusoidForSequenceClassification,
    SinusoidMlpForSequenceClassification,
)


class SinusoidExamples(BatchDataset):
    """Points of the noiseless sinusoid.

    Args:
        x: Where, in [-1, 1].
        frequency: Periods from 0 to 1.
    """

    def __init__(self, x: NDArray[np.float64], *, frequency: float) -> None:
        self.x, self.y = x, np.sin(2.0 * np.pi * frequency * x)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return x as a column, and the sinusoid at x as labels. Shapes: (B, 1), (B,)."""
        inputs = torch.from_numpy(self.x[rows]).float().unsqueeze(-1)
        return {"inputs": inputs, "labels": torch.from_numpy(self.y[rows]).float()}


@TASKS.register("noisy_sinusoid")
@dataclass(kw_only=True)
class NoisySinusoid(Task):
    """y = sin(2π·f·x) on [-1, 1]; the teacher (`noisy_sinusoid`) adds a fast sinusoid, its noise.

    Labels are noiseless, so that training on them shows what a teacher without noise would give; held-out points lie
    on an even grid. `noise_copied` is the share of the teacher's noise that the student repeats: the coefficient of
    the noise in the student's error, 0 for none and 1 for all.

    From the paper: 3,000 samples, a slow and a fast sinusoid, a student 1-128-128-1. Frequencies, the noise's
    amplitude, the interval and the margin are not given there: our instantiation.
    """

    head: ClassVar[Head] = "regression"
    metric: ClassVar[str] = "mse"
    greater_is_better: ClassVar[bool] = False

    signal_frequency: float = field(default=1.0, metadata={"help": "periods of the signal from 0 to 1"})
    noise_frequency: float = field(default=3.0, metadata={"help": "periods of the teacher's noise from 0 to 1"})
    noise_amplitude: float = field(default=0.3, metadata={"help": "amplitude of the teacher's noise; the signal's: 1"})
    train_examples: int = field(default=3000, metadata={"help": "training points, drawn evenly with the seed"})
    validation_examples: int = field(default=1000, metadata={"help": "held-out points, on a grid"})

    def __post_init__(self) -> None:
        if self.train_examples < 1 or self.validation_examples < 2:
            raise ValueError(
                "noisy_sinusoid: expected at least 1 training and 2 held-out examples, got "
                f"{self.train_examples} and {self.validation_examples}"
            )

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Draw the training points by the seed; hold out a grid."""
        rows = np.arange(self.train_examples, dtype=np.uint64)
        drawn = 2.0 * CounterStream("noisy_sinusoid/train", seed).uniform(rows) - 1.0
        return TaskData(
            train=SinusoidExamples(drawn, frequency=self.signal_frequency),
            validation=SinusoidExamples(self.grid(), frequency=self.signal_frequency),
            collator=BatchCollator(label_dimensions=0),
            compute_metrics=self.compute_metrics,
            fingerprint=hashlib.sha256(json.dumps(["noisy_sinusoid", asdict(self)]).encode()).hexdigest(),
            description={
                "datasets": [],
                "source": f"sin(2π·{self.signal_frequency:g}·x) on [-1, 1], generated",
                "preprocessing": "none; labels without noise",
                "train_rows": self.train_examples,
                "validation_rows": self.validation_examples,
            },
        )

    def grid(self) -> NDArray[np.float64]:
        """Return the held-out x.

        Shapes: (validation_examples,).
        """
        return np.linspace(-1.0, 1.0, self.validation_examples)

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the squared distance to the noiseless signal and the share of the teacher's noise in it.

        Shapes: predictions (N, 1), labels (N,), both in the grid's order.
        """
        errors = np.asarray(prediction.predictions, np.float64).reshape(-1) - np.asarray(prediction.label_ids)
        noise = np.sin(2.0 * np.pi * self.noise_frequency * self.grid()[: len(errors)])
        scale = self.noise_amplitude * float(noise @ noise)
        copied = float(errors @ noise) / scale if scale else 0.0
        return {"mse": float(np.square(errors).mean()), "noise_copied": copied}

    def auto_class(self) -> AutoClass:
        """Return the class of classifiers, of which one with a single label answers with a number."""
        return AutoModelForSequenceClassification

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Ask for one answer; tell the fixed teacher its frequencies and its noise."""
        defaults: dict[str, Any] = {"num_labels": 1}
        if issubclass(config_class, NoisySinusoidConfig):
            defaults |= {"signal_frequency": self.signal_frequency, "noise_frequency": self.noise_frequency}
            defaults["noise_amplitude"] = self.noise_amplitude
        return defaults

    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse all but the two architectures that read a number."""
        if not isinstance(model, (SinusoidMlpForSequenceClassification, NoisySinusoidForSequenceClassification)):
            raise ValueError(
                f"model: {type(model).__name__} does not read a number; use the architectures sinusoid_mlp (student) "
                "and noisy_sinusoid (the fixed teacher)"
            )
