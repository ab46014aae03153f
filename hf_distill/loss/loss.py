"""The loss of a step: Σ weight · objective, each divided by the items of the whole accumulation window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.curricula import Term
from hf_distill.kernels import HeadRows, LogitRows, RowTerm, tiled_loss
from hf_distill.loss.loss_log import LossLog
from hf_distill.loss.reduction import Unit, count_items, denominators, reduce_values
from hf_distill.reading.signals import Head, Signals, select_rows


class Loss:
    """Adds up the terms of a stage over the only denominators there are.

    Args:
        head: The student's kind of head.
        accelerator: Adds up counts over ranks.
        label_term: What evaluation reports.
    """

    def __init__(self, *, head: Head, accelerator: Accelerator, label_term: Term) -> None:
        self.head = head
        self.accelerator = accelerator
        self._label_term = label_term
        self._denominators: dict[Unit, Tensor] = {}

    def count_window(self, batches: Sequence[Mapping[str, Any]], device: torch.device) -> Tensor:
        """Count the items of an accumulation window on all ranks: the denominators of its micro-batches.

        Shapes: returns (4,), the counts in the order of `UNITS`.
        """
        counts = count_items(batches, self.head).to(device)
        if self.accelerator.num_processes > 1:
            counts = self.accelerator.reduce(counts, reduction="sum")
        self._denominators = denominators(counts)
        return counts

    def of_labels(self, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Return the mean loss of a batch with its labels: what evaluation reports."""
        rows = select_rows(self.head, inputs)
        values = self._label_term.objective.values(Signals(rows.of(logits), rows.labels_R), temperature=1.0)
        return reduce_values(values, denominators(count_items([inputs], self.head))["label"])

    def of_rows(
        self,
        student: HeadRows,
        terms: Sequence[Term],
        *,
        teacher: HeadRows | LogitRows | None,
        labels_R: Tensor | None,
        shared_width: int | None,
        progress: float,
        step: int,
        scale: int,
        log: LossLog,
        passes: int = 1,
    ) -> Tensor:
        """Return what `add_up` returns, from rows in front of the heads, without their logits ever being whole.

        Args:
            student: The student's rows that count, and its head; those of the first pass first.
            terms: What is added up, each a function of one row's logits and label.
            teacher: The teacher's rows and head, or its logits; None where no term reads them.
            labels_R: The rows' labels, where there are any.
            shared_width: Ids that both heads have.
            progress: Of the run, for weights and temperatures.
            step: The optimizer step.
            scale: Number of ranks over which gradients are averaged.
            log: Gets each term's share.
            passes: Of the student over the same rows.
        """
        factor = scale / self._denominators["label"]
        row_terms = [
            RowTerm(objective=term.objective, weight=term.weight_at(progress), temperature=term.temperature(progress))
            for term in terms
        ]
        loss, values_KR = tiled_loss(
            student,
            row_terms,
            teacher=teacher,
            labels_R=labels_R,
            scale=factor,
            shared_width=shared_width,
            passes=passes,
        )
        for term, values_R in zip(terms, values_KR, strict=True):
            log.add(f"objective/{term.key}", factor * values_R.sum(), step=step)
        return loss

    def add_up(
        self,
        terms: Sequence[Term],
        signals: Sequence[Signals],
        *,
        view: Callable[[Signals, Term], Signals],
        progress: float,
        step: int,
        scale: int,
        log: LossLog,
        ratio: Mapping[Unit, Tensor] | None = None,
    ) -> Tensor:
        """Return a micro-batch's share of the window's loss.

        Args:
            terms: What is added up.
            signals: Of each pass of the student.
            view: Gives the signals as a term compares them.
            progress: Of the run, for weights and temperatures.
            step: The optimizer step.
            scale: Number of ranks over which gradients are averaged; the denominators count the items of all.
            log: Gets each term's share.
            ratio: Items of the micro-batch that was counted ÷ items of the one that is compared on, where they differ.
        """
        loss = torch.zeros((), device=self.accelerator.device)
        for term in terms:
            # What compares the passes with each other is in every pass's signals; it is computed once.
            chosen = signals[:1] if term.objective.compares_passes else signals
            temperature = term.temperature(progress)
            values = [term.objective.values(view(one, term), temperature=temperature) for one in chosen]
            divisor = self._denominators[term.objective.unit]
            part = scale * torch.stack([reduce_values(value, divisor) for value in values]).mean()
            part = part if ratio is None else ratio[term.objective.unit] * part
            loss = loss + term.weight_at(progress) * part
            log.add(f"objective/{term.key}", part, step=step)
        return loss if signals[0].captured is None else loss + signals[0].zero()
