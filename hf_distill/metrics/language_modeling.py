"""Token metrics of masked and causal language models, from logits that are shrunk before they are gathered.

Shape legend: B examples, T positions, P scored positions (T, or T - 1 after the next-token shift), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from hf_distill.metrics.numbers import bits_per_byte, masked_accuracy, mean_nll, perplexity
from hf_distill.reading.signals import IGNORE_INDEX, at_least_float32

TokenHead = Literal["masked_lm", "causal_lm"]


def token_statistics(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return arg-max and negative log-likelihood (nats, fp32) of each position; 0 where the label is -100.

    Shapes: logits (B, P, V), labels (B, P) -> (B, P), (B, P).
    """
    logits = at_least_float32(logits)
    label_logits = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    nll = (logits.logsumexp(-1) - label_logits).masked_fill(labels == IGNORE_INDEX, 0.0)
    return logits.argmax(-1), nll


def shrink_logits(head: TokenHead) -> Callable[[Tensor | tuple[Tensor, ...], Tensor], tuple[Tensor, Tensor]]:
    """Return the Trainer's `preprocess_logits_for_metrics`: two numbers a token instead of one a vocabulary entry."""

    def shrink(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits[0] if isinstance(logits, tuple) else logits
        with torch.no_grad():
            if head == "causal_lm":
                return token_statistics(logits[:, :-1], labels[:, 1:])
            return token_statistics(logits, labels)

    return shrink


@dataclass(frozen=True, kw_only=True)
class TokenMetrics:
    """The Trainer's `compute_metrics` for what `shrink_logits` leaves.

    Attributes:
        head: Decides the shift of the labels and the name of the accuracy.
        bytes_per_token: UTF-8 bytes of text a scored token stands for; None leaves `bits_per_byte` out.
    """

    head: TokenHead
    bytes_per_token: float | None = None

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return accuracy, nll (nats a token), perplexity and, for causal models, bits per byte.

        Shapes: predictions two arrays (B, P), labels (B, T).
        """
        predicted, nll = (np.asarray(values) for values in prediction.predictions)
        labels = np.asarray(prediction.label_ids)
        labels = labels[:, 1:] if self.head == "causal_lm" else labels
        counted = nll[labels != IGNORE_INDEX]
        name = "masked_accuracy" if self.head == "masked_lm" else "next_token_accuracy"
        metrics = {
            name: masked_accuracy(predicted, labels),
            "nll": mean_nll(counted),
            "perplexity": perplexity(counted),
        }
        if self.bytes_per_token is not None:
            metrics["bits_per_byte"] = bits_per_byte(counted, text_bytes=self.bytes_per_token * counted.size)
        return metrics
