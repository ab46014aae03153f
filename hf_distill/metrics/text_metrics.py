"""The metrics of what models write: generated ids become texts and are scored against references.

Shape legend: N texts, T tokens of the longest, S tokens of all targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import EvalPrediction, PreTrainedTokenizerBase

from hf_distill.reading.signals import IGNORE_INDEX

Score = Callable[[Sequence[str], Sequence[str]], dict[str, float]]
"""From texts and references to metrics."""


@dataclass(frozen=True, kw_only=True)
class TextMetrics:
    """The Trainer's `compute_metrics` for generated texts.

    Attributes:
        tokenizer: Turns ids into texts.
        references: What should have been written, in the order of the examples, as it was before any cutting.
        targets_S: The ids of all targets, end to end, as they are in the batches.
        score: What is computed.
    """

    tokenizer: PreTrainedTokenizerBase
    references: Sequence[str]
    targets_S: NDArray[np.int32]
    score: Score

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the metrics of the generated texts.

        Shapes: predictions (N, T) ids, labels (N, T) ids or -100.

        Raises:
            ValueError: The predictions do not come in the order of the references.
        """
        written, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        if len(written) != len(self.references) or not np.array_equal(labels[labels != IGNORE_INDEX], self.targets_S):
            raise ValueError(
                f"{len(written)} predictions do not belong to the {len(self.references)} references in their order; "
                "evaluate with ProgressiveDistillSeq2SeqTrainer, on the held-out set that the metrics were made for"
            )
        return self.score(self.texts(written), self.references)

    def texts(self, written: NDArray[Any]) -> list[str]:
        """Return generated ids as texts, without special tokens. Shapes: (N, T) -> N texts."""
        filled = np.where(written < 0, self.tokenizer.pad_token_id, written)
        found = self.tokenizer.batch_decode(filled.tolist(), skip_special_tokens=True)
        return [text.strip() for text in found]


def only_ids(predictions: Any, labels: Tensor) -> Any:
    """Return generated ids as they are: the Trainer's `preprocess_logits_for_metrics` of tasks that generate.

    Raises:
        ValueError: They are logits, of which no text can be made.
    """
    first = predictions[0] if isinstance(predictions, tuple) else predictions
    if first.is_floating_point():
        raise ValueError(
            "the metrics of this task are of generated texts, but evaluation gives logits; set predict_with_generate: "
            "true (the default of the task), or evaluate the loss only with prediction_loss_only: true"
        )
    return predictions
