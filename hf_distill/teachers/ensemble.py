"""Several teachers that answer as one: the mean of their probabilities, or of their logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.reading.signals import Head, Rows, at_least_float32
from hf_distill.teachers.composed import ComposedTeacher, TeacherLike

Average = Literal["probabilities", "logits"]


class EnsembleTeacher(ComposedTeacher):
    """The weighted mean of several teachers, each with its final revision.

    With `probabilities` its logits are log Σ w·softmax(z), so that at temperature 1 the target is the mixture of what
    the members say. Another temperature softens that mixture; it is not the mixture of softened members. With `logits`
    they are Σ w·z, which is the geometric mean of the members' probabilities; it alone fits a regression head.

    Args:
        members: Teacher sources, loaded models, or what `TeacherSequence` takes; with one tokenizer and equal labels.
        weights: One a member, above 0; they are divided by their sum. Default: all equal.
        average: What the mean is taken of.

    Raises:
        ValueError: No members, or weights that do not fit them.

    Example:
        >>> teacher = EnsembleTeacher(["org/teacher-a", "org/teacher-b"], weights=[2, 1])  # doctest: +SKIP
    """

    kind = "ensemble"

    def __init__(
        self,
        members: Sequence[TeacherLike],
        *,
        weights: Sequence[float] | None = None,
        average: Average = "probabilities",
    ) -> None:
        if average not in get_args(Average):
            raise ValueError(f"average: expected one of {', '.join(get_args(Average))}, got {average!r}")
        weights = [1.0] * len(members) if weights is None else list(weights)
        check_weights(weights, len(members))
        self.weights = [weight / sum(weights) for weight in weights]
        self.average = average
        shown = "" if len(set(weights)) <= 1 else f", weights {' : '.join(f'{weight:g}' for weight in weights)}"
        super().__init__(
            members,
            name="ensemble",
            text=f"ensemble of {len(members)}, mean of {average}{shown}",
            rule={"average": average, "weights": self.weights},
        )

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Attach every member.

        Raises:
            ValueError: The members do not go together, or a regression head is asked for probabilities.
        """
        if head == "regression" and self.average == "probabilities":
            raise ValueError("a regression head gives no probabilities to average; use average: logits")
        super().attach(head=head, accelerator=accelerator)

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the logits of the mean, in float32, without gradient.

        Shapes: (B, classes) or (B, T, V).
        """
        return self._mean(member.logits(inputs) for member in self.members)

    @torch.no_grad()
    def row_logits(self, inputs: Mapping[str, Any], rows: Rows) -> Tensor:
        """Return the logits of the mean at the rows that count; members compute no others where they can.

        Shapes: (R, V).
        """
        return self._mean(member.row_logits(inputs, rows) for member in self.members)

    def _mean(self, answers: Iterable[Tensor]) -> Tensor:
        """Return the weighted mean of the members' logits, one after the other. Shapes: (..., V) -> (..., W)."""
        total: Tensor | None = None
        for answer, weight in zip(answers, self.weights, strict=True):
            shared = at_least_float32(self.shared(answer))
            if self.average == "logits":
                total = weight * shared if total is None else total + weight * shared
            else:
                part = shared.log_softmax(-1) + math.log(weight)
                total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return total


def check_weights(weights: Sequence[float], count: int) -> None:
    """Refuse weights that are not one positive number a member.

    Raises:
        ValueError: Another count, or a weight that is not above 0.
    """
    if len(weights) != count:
        raise ValueError(f"weights: expected one a member, {count}, got {len(weights)}")
    wrong = [weight for weight in weights if not (math.isfinite(weight) and weight > 0)]
    if wrong:
        raise ValueError(f"weights: expected numbers above 0, got {wrong[0]:g}; leave a member of weight 0 out")
