"""What an objective is: one unreduced, unmasked term of the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor

from hf_distill.loss.reduction import Unit
from hf_distill.reading.signals import Head, Signals
from hf_distill.registry import Registry

ALL_HEADS: frozenset[Head] = frozenset(get_args(Head))
REGRESSION_HEADS: frozenset[Head] = frozenset({"regression"})
CLASS_HEADS: frozenset[Head] = ALL_HEADS - REGRESSION_HEADS
FIXED_CLASS_HEADS: frozenset[Head] = CLASS_HEADS - {"question_answering"}
"""Heads with the same classes in every row; those of an answer are the positions of its text, and padding."""


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """One term of the loss: unreduced values, one per item of its `unit`.

    An objective never masks and never averages: rows that do not count are dropped before it (`signals.py`) and the
    trainer divides by the window's items (`reduction.py`).

    Attributes:
        unit: What one value belongs to; it picks the denominator.
        heads: Heads on which the objective means something.
        needs: What must be at hand: "labels", "teacher.logits", "student.hidden_states", ...
        papers: arXiv ids that the card of a student cites, each in `bibliography.py`.
    """

    unit: ClassVar[Unit] = "label"
    heads: ClassVar[frozenset[Head]] = ALL_HEADS
    needs: ClassVar[frozenset[str]] = frozenset()
    papers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the unreduced values in float32 (float64 stays).

        Shapes: (R,).
        """

    def check_head(self, head: Head, *, path: str) -> None:
        """Refuse a head that the objective, as it is set, means nothing on.

        Args:
            head: Of the student.
            path: Of the objective, for messages.

        Raises:
            ValueError: It does not fit.
        """
        if head not in self.heads:
            raise ValueError(
                f"{path}: {OBJECTIVES.name_of(type(self))!r} does not fit a {head} head; it fits "
                f"{', '.join(sorted(self.heads))}"
            )

    @property
    def partition_invariant(self) -> bool:
        """Whether the same examples give the same update however they are split into micro-batches.

        Not so where items are compared with the others of their micro-batch. What holds there: a window's update is
        that of its micro-batches alone, each weighed with its share of the window's items, on however many ranks.
        """
        return True

    @property
    def compares_passes(self) -> bool:
        """Whether the student's passes are compared with each other."""
        return "student.passes" in self.needs

    @abstractmethod
    def formula(self) -> str:
        """Return the objective as short text for reports and model cards."""

    @property
    def uses_teacher(self) -> bool:
        """Whether the teacher has to run for this objective."""
        return any(need.startswith("teacher.") for need in self.needs)


OBJECTIVES: Registry[Objective] = Registry("objective", Objective)
