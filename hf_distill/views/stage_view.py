"""A view as a stage has it: how much its teacher terms weigh, and which examples of several drawings are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hf_distill.reading.signals import Head
from hf_distill.schedules import Constant, Schedule
from hf_distill.views.base import View

Criterion = Literal["student_entropy", "teacher_entropy", "kl"]


@dataclass(frozen=True, kw_only=True)
class Pick:
    """Draw a view several times and keep the examples with the largest scores, as many as the batch has.

    Scores are in nats at temperature 1 and without a gradient, the student in eval mode; with token heads the mean
    over an example's counted positions, an example without any coming last. CutMixPick of Wang et al. 2020 (arXiv
    2012.02909) has 2 pools and the student's entropy. Scoring costs a forward of each pool with each model that is
    asked; the kept examples are then read once more.

    Raises: ValueError for less than one pool.
    """

    pools: int = field(default=2, metadata={"help": "how often the view is drawn; 1 keeps every example"})
    by: Criterion = field(
        default="student_entropy", metadata={"help": "entropy of the student or the teacher, or KL(teacher ‖ student)"}
    )

    def __post_init__(self) -> None:
        if self.pools < 1:
            raise ValueError(f"pick: `pools` must be at least 1, got {self.pools}")


@dataclass(frozen=True, kw_only=True)
class StageView:
    """A view with its weight.

    Attributes:
        name: Shown in logs behind the terms' names, unique within the stage.
        view: What is done to the batch.
        weight: Factor of the terms on the view beside their own, over progress.
        pick: Which examples of several drawings are kept.
    """

    name: str
    view: View
    weight: Schedule = Constant(level=1.0)
    pick: Pick = Pick(pools=1)

    def check_head(self, head: Head) -> None:
        """Refuse a head that the view or its pick means nothing for.

        Raises:
            ValueError: It does not fit.
        """
        if head not in self.view.heads:
            raise ValueError(
                f"the view {self.name!r} does not fit a {head} head; it fits {', '.join(sorted(self.view.heads))}"
            )
        if head == "regression" and self.pick.pools > 1:
            raise ValueError(
                f"the view {self.name!r}: `pick` goes by probabilities, which a regression head does not give; leave "
                "it out"
            )
