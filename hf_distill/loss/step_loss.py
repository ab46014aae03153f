"""The loss of a micro-batch in its stage: which forwards it takes, and in which way they are compared.

Three ways lead to the same number: hidden states of one pair of layers, whose forwards end there; a vocabulary's
divergences a tile of rows at a time, the logits never whole; and everything else from the logits of the rows that
count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hf_distill.curricula import Stage, Term
from hf_distill.kernels import is_row_wise
from hf_distill.kernels.heads import Head
from hf_distill.loss.loss import Loss
from hf_distill.reading.flattened import FlattenedBatches
from hf_distill.reading.signal_reader import SignalReader, Student, repeated
from hf_distill.reading.signals import select_rows
from hf_distill.views.reading import ViewReader, terms_by_view


class StepLoss:
    """Computes the loss of micro-batches.

    Args:
        reader: Runs student and teacher.
        view_reader: Runs them on augmented views.
        loss: Has the denominators.
    """

    def __init__(self, reader: SignalReader, view_reader: ViewReader, loss: Loss) -> None:
        self.reader = reader
        self.view_reader = view_reader
        self.loss = loss
        self._flattened = FlattenedBatches(reader)

    def __call__(
        self,
        student: Student,
        inputs: Mapping[str, Any],
        stage: Stage,
        live: Sequence[Term],
        *,
        progress: float,
        step: int,
        scale: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Return a micro-batch's share of the window's loss, and the student's logits where they were whole.

        Args:
            student: The student in its wrapper.
            inputs: The micro-batch.
            stage: Of the step.
            live: The stage's terms that the step computes.
            progress: Of the run.
            step: Optimizer step.
            scale: Number of ranks over which gradients are averaged.

        Raises:
            ValueError: The batch lacks what an objective needs.
        """
        self.view_reader.check(inputs)
        self._flattened.check(student, inputs)
        terms = [term for term in live if term.view is None]
        add_up = partial(
            self.loss.add_up, view=self.reader.view, progress=progress, step=step, scale=scale, log=self.reader.log
        )
        loss = self._in_tiles(student, inputs, stage, terms, progress=progress, step=step, scale=scale)
        logits = None
        if loss is None:
            signals, logits = self._signals(student, inputs, stage, terms)
            loss = add_up(terms, signals)
        for on, group in terms_by_view(live):
            seen = self.view_reader.read(student, inputs, on, stage=stage, terms=group)
            loss = loss + add_up(group, seen.signals, ratio=seen.ratio)
        return loss, logits

    def _signals(self, student: Student, inputs: Mapping[str, Any], stage: Stage, terms: Sequence[Term]) -> Any:
        if stage.layers is not None:
            return self.reader.hidden(student, inputs, stage.layers), None
        taught = any(term.objective.uses_teacher for term in terms)
        return self.reader.logits(student, inputs, stage=stage, needs_teacher=taught, terms=terms)

    def _in_tiles(
        self,
        student: Student,
        inputs: Mapping[str, Any],
        stage: Stage,
        terms: Sequence[Term],
        *,
        progress: float,
        step: int,
        scale: int,
    ) -> Tensor | None:
        """Return the loss where each term is a function of one row's logits and label, else None."""
        row_wise = stage.layers is None and all(is_row_wise(term.objective) for term in terms)
        row_head = self.reader.row_head(student) if row_wise else None
        if row_head is None:
            return None
        batch, rows = self.reader.positioned(inputs), select_rows(self.reader.head, inputs)
        forwards, own, own_rows = stage.passes, batch, rows
        if stage.pass_mode == "repeat" and stage.passes > 1:
            forwards, own = 1, repeated(batch, stage.passes)
            own_rows = select_rows(self.reader.head, repeated(inputs, stage.passes))
        # The teacher runs first: the student's rows meet its own inside the student's forward.
        taught = any(term.objective.uses_teacher for term in terms)
        teacher = self.reader.teacher_head_rows(batch, rows) if taught else None

        earlier: list[Tensor] = []
        for _ in range(forwards - 1):
            found = row_head.read(lambda: student.forward(own), lambda hidden, head: own_rows.of(hidden))
            if found is None:
                return None
            earlier.append(found)

        def at_head(hidden: Tensor, head: Head) -> Tensor:
            return self.loss.of_rows(
                # The rows of the first pass first; those of one pass need no copy.
                head.rows(torch.cat([*earlier, own_rows.of(hidden)]) if earlier else own_rows.of(hidden)),
                terms,
                teacher=teacher,
                labels_R=rows.labels_R,
                shared_width=self.reader.shared_width,
                progress=progress,
                step=step,
                scale=scale,
                log=self.reader.log,
                passes=stage.passes,
            )

        return row_head.read(lambda: student.forward(own), at_head)
