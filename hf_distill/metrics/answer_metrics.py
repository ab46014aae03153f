"""From the logits of windows to answers in words, and their exact match and F1.

Shape legend: N questions, W windows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction

from hf_distill.metrics.numbers_answers import answers

if TYPE_CHECKING:
    from hf_distill.tasks.answer_windows import Windows


@dataclass(frozen=True, kw_only=True)
class AnswerMetrics:
    """The Trainer's `compute_metrics` for starts and ends of answers.

    Attributes:
        windows: What was predicted for, in this order.
        contexts: The text of each question.
        accepted: The answers that count as right for each question.
        positions_W2: First and last token of each window's answer, as they are in the batches.
        n_best: Starts and ends looked at in each window.
        max_answer_length: Tokens of an answer at most.
    """

    windows: Windows
    contexts: Sequence[str]
    accepted: Sequence[Sequence[str]]
    positions_W2: NDArray[np.int64]
    n_best: int
    max_answer_length: int

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return exact match and F1 of the best answer to each question.

        Shapes: predictions two arrays (W, T), labels two arrays (W,).

        Raises:
            ValueError: The windows do not come in their order.
        """
        found = np.stack([np.asarray(positions) for positions in prediction.label_ids], axis=-1)
        if found.shape != self.positions_W2.shape or not np.array_equal(found, self.positions_W2):
            raise ValueError(
                f"{len(found)} predictions do not belong to the {len(self.positions_W2)} windows in their order; "
                "train_sampling_strategy: group_by_length moves held-out examples too, leave it out"
            )
        starts_WT, ends_WT = (np.asarray(logits) for logits in prediction.predictions)
        return answers(self.texts(np.stack([starts_WT, ends_WT], axis=-1)), self.accepted)

    def texts(self, logits: NDArray[np.floating[Any]]) -> list[str]:
        """Return the best answer to each question: of all its windows the one whose start and end logits are largest.

        Of equal ones the first; without any possible one the empty text.

        Shapes: (W, T, 2) -> N texts.
        """
        best = [(-np.inf, "")] * len(self.contexts)
        for window, (first, last) in enumerate(pairwise(self.windows.starts.starts)):
            question = self.windows.questions_W[window]
            starts_T, ends_T = (side.values[first:last] for side in (self.windows.starts, self.windows.ends))
            span = self._best_span(logits[window, : last - first].astype(np.float64), self.windows.inside(window))
            if span is not None and span[0] > best[question][0]:
                text = self.contexts[question][starts_T[span[1]] : ends_T[span[2]]]
                best[question] = (span[0], text)
        return [text for _, text in best]

    def _best_span(self, logits_T2: NDArray[np.float64], inside_T: NDArray[np.bool_]) -> tuple[float, int, int] | None:
        context = np.flatnonzero(inside_T)
        order = [context[np.argsort(-side[context], kind="stable")[: self.n_best]] for side in logits_T2.T]
        starts, ends = order[0][:, None], order[1][None, :]
        possible = (starts <= ends) & (ends - starts < self.max_answer_length)
        if not possible.any():
            return None
        scores = np.where(possible, logits_T2[starts, 0] + logits_T2[ends, 1], -np.inf)
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        return float(scores[row, column]), int(order[0][row]), int(order[1][column])
