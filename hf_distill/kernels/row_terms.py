"""Terms of a loss that can be computed a few rows at a time, and what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from hf_distill.kernels.closed_forms import CLOSED_FORMS
from hf_distill.kernels.pass_forms import PASS_FORMS
from hf_distill.objectives import Objective
from hf_distill.objectives.distributions import ARGMAX_BELOW, TemperedObjective
from hf_distill.reading.signals import TOKEN_HEADS, Signals

READABLE = frozenset({"labels", "teacher.logits"})


class View(NamedTuple):
    """Which distribution of a model a term reads: of its first `width` logits, divided by `temperature`.

    A temperature of 0 is the limit, the arg-max.
    """

    temperature: float
    width: int


@dataclass(frozen=True, kw_only=True)
class RowTerm:
    """One objective with its weight and temperature in this step.

    Attributes:
        objective: What is computed.
        weight: Its factor in the loss.
        temperature: As in `Objective.values`.

    Raises:
        ValueError: The objective compares rows with each other, needs more than logits and labels, or has no limit at
            this temperature.
    """

    objective: Objective
    weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not is_row_wise(self.objective):
            raise ValueError(
                f"{type(self.objective).__name__} is not a function of one row's logits and label at a time (it needs "
                f"{sorted(self.objective.needs)}), so it cannot be computed in tiles; compute its logits whole"
            )
        if self.needs_teacher and isinstance(self.objective, TemperedObjective):
            # The objective itself knows which temperatures it refuses.
            none_RV = torch.zeros(0, 2)
            labels_R = torch.zeros(0, dtype=torch.long)
            signals = Signals(student_logits=none_RV, teacher_logits=none_RV, labels=labels_R)
            self.objective.values(signals, temperature=self.temperature)

    @property
    def needs_teacher(self) -> bool:
        """Whether the term reads the teacher."""
        return self.objective.uses_teacher

    @property
    def needs_labels(self) -> bool:
        """Whether the term reads the labels."""
        return "labels" in self.objective.needs

    @property
    def closed(self) -> bool:
        """Whether its gradient is written out; otherwise autograd takes it, a block of rows at a time."""
        return type(self.objective) in CLOSED_FORMS or self.compares_passes

    @property
    def compares_passes(self) -> bool:
        """Whether the student's passes are compared with each other."""
        return self.objective.compares_passes

    @property
    def divides_student(self) -> bool:
        """Whether the temperature divides the student's logits too."""
        return isinstance(self.objective, TemperedObjective) and self.objective.temperature_on == "both"

    @property
    def value_factor(self) -> float:
        """What the closed form's value is multiplied by: τ² where the temperature divides both."""
        return self.temperature**2 if self.divides_student else 1.0

    @property
    def gradient_factor(self) -> float:
        """What its gradient is multiplied by to be that of the value with respect to the undivided logits."""
        return self.temperature if self.divides_student else 1.0

    def student_view(self, shared: int, own: int) -> View:
        """Return what a closed form reads of the student: all ids beside labels, the shared ones beside a teacher."""
        return View(self.temperature if self.divides_student else 1.0, shared if self.needs_teacher else own)

    def teacher_view(self, shared: int) -> View | None:
        """Return what a closed form reads of the teacher."""
        if not self.needs_teacher:
            return None
        return View(0.0 if self.temperature < ARGMAX_BELOW else self.temperature, shared)


def is_row_wise(objective: Objective) -> bool:
    """Whether an objective compares tokens, and its value of a row depends on this row's logits and label only.

    The logits are those of both models; or of all the student's passes, where it is them that are compared.
    """
    reads_tokens = bool(objective.heads & TOKEN_HEADS)
    if not reads_tokens or objective.unit != "label" or not objective.partition_invariant:
        return False
    return objective.needs <= READABLE or type(objective) in PASS_FORMS
