"""Intra-distillation and R-Drop: several passes of the student that must agree, beside any curriculum."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hf_distill.curricula.plan import Stage, Term
from hf_distill.objectives import PassVariance, XDivergence, XDivergenceSum
from hf_distill.reading.signals import Head
from hf_distill.schedules import Constant, IntraRamp, Schedule
from hf_distill.strict_dataclass import from_mapping


@dataclass(frozen=True, kw_only=True)
class Intra:
    """K passes of the student over the same batch, each with its own dropout, and a term for their disagreement.

    L = mean_k L_task,k + α′(t)·X for intra-distillation. `convention: r_drop` takes two passes, sums their task losses
    and weighs half of Jeffreys' divergence with α, which is exactly twice intra-distillation with K = 2. With a
    teacher, the teacher runs once for all passes.

    In a loop the graphs of all K passes are kept until the one backward, as those of the repeated batch are: both take
    about K times the activations of one pass.

    Raises: ValueError for fewer than two passes, R-Drop with another number than two, or an impossible weight.
    """

    passes: int = field(default=3, metadata={"help": "K"})
    alpha: float = field(default=1.0, metadata={"help": "weight of the disagreement; 5 (MT), 0.5 (GLUE), 1 (XTREME)"})
    p: float | None = field(default=None, metadata={"help": "with q: α is reached at 1/p of the run"})
    q: float | None = field(default=None, metadata={"help": "with p: the weight passes 1 at 1/q of the run"})
    mode: Literal["loop", "repeat"] = field(
        default="loop", metadata={"help": "K forwards, or one of the repeated batch (faster where a batch is small)"}
    )
    reduction: Literal["mean", "paper"] = field(
        default="mean", metadata={"help": "`paper` sums over the micro-batch as the released GLUE code does"}
    )
    convention: Literal["intra_distillation", "r_drop"] = field(
        default="intra_distillation", metadata={"help": "how task losses and α are counted"}
    )

    def __post_init__(self) -> None:
        if self.passes < 2:
            raise ValueError(f"intra: `passes` must be at least 2, or there is nothing to agree, got {self.passes}")
        if self.convention == "r_drop" and self.passes != 2:
            raise ValueError(f"intra: R-Drop has 2 passes, got {self.passes}; use convention: intra_distillation")
        if (self.p is None) != (self.q is None):
            raise ValueError("intra: the adaptive weight needs both `p` and `q`, with p < q")
        if self.alpha < 0:
            raise ValueError(f"intra: `alpha` must be ≥ 0, or the passes are driven apart, got {self.alpha:g}")
        self.weight()

    @property
    def papers(self) -> tuple[str, ...]:
        """The arXiv ids that the card of a student cites."""
        return ("2106.14448",) if self.convention == "r_drop" else ("2205.11416",)

    def weight(self) -> Schedule:
        """Return α′ over the run.

        Raises:
            ValueError: Not 1 ≤ p < q.
        """
        if self.p is None or self.q is None:
            return Constant(level=self.alpha)
        return IntraRamp(alpha=self.alpha, p=self.p, q=self.q)

    def extend(self, stage: Stage, head: Head) -> Stage:
        """Return `stage` with K passes and the term for their disagreement; hidden-layer stages stay as they are."""
        if stage.layers is not None:
            return stage
        doubled = self.convention == "r_drop"
        terms = tuple(replace(term, scale=term.scale * 2.0) if doubled else term for term in stage.terms)
        objective = (
            PassVariance()
            if head == "regression"
            else XDivergenceSum()
            if self.reduction == "paper"
            else XDivergence()
        )
        term = Term(name="passes", objective=objective, weight=self.weight(), scale=2.0 if doubled else 1.0)
        return replace(stage, terms=(*terms, term), passes=self.passes, pass_mode=self.mode)


def build_intra(spec: dict[str, Any] | None) -> Intra | None:
    """Build the `intra` block of a curriculum, where there is one.

    Raises:
        ValueError: Unknown or impossible fields.
    """
    return None if spec is None else from_mapping(Intra, spec, path="curriculum.intra")
