"""A ladder of teachers, of which each example hears exactly one: easy ones a small, hard ones a large (CES-KD)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.models.checkpointed_module import CheckpointedModule
from hf_distill.objectives import OBJECTIVES
from hf_distill.reading.signals import Head, Signals, at_least_float32, select_rows
from hf_distill.teachers.composed import ComposedTeacher, TeacherLike
from hf_distill.teachers.router import Difficulty, DifficultyRouter, opened
from hf_distill.teachers.sharding import refuse_sharding


class LadderTeacher(ComposedTeacher):
    """Curriculum-based expert selection: one expert an example, chosen by how hard the example is.

    Amara et al. 2022 (CES-KD, arXiv 2209.07606) hold that a student learns easy examples better from a teacher of
    lower capacity and hard ones from a larger one. The abstract is all we have of it: no formula, no measure of
    difficulty, no table. What is here is our instantiation:

    - The smallest expert reads the whole batch. An example's difficulty is that expert's loss on its label, or the
      entropy of what it says; the mean over the counted positions where the head has several.
    - The quantiles k/M of the difficulty are measured once, on the first training examples, and kept in checkpoints.
      An example with rank r among them has the rung min(⌈M·r⌉, open(u)): a fixed function of the example and of
      progress u, so that it does not matter how batches are split. Equal difficulties have one rung.
    - Every other expert runs once, on the examples that chose it; one that nobody chose does not run.

    Where the choice falls is logged as `teacher/rung_1`, ..., shares of the examples since the last log.

    Args:
        rungs: The experts, smallest to largest: teacher sources, loaded models, or what `TeacherSequence` takes. The
            last one is the teacher, those before it mostly its assistants.
        router: How an example chooses.

    Raises:
        ValueError: No rungs, or a router that opens more than there are.
    """

    kind = "ladder"

    def __init__(self, rungs: Sequence[TeacherLike], *, router: DifficultyRouter | None = None) -> None:
        router = router if router is not None else DifficultyRouter()
        rule = {"difficulty": router.difficulty, "examples": router.examples, "open": router.open}
        super().__init__(rungs, name="ladder", text=f"ladder of {len(rungs)}, {router.formula()}", rule=rule)
        self.router = router
        self._schedule = router.schedule(len(self.members))
        self._open = opened(self._schedule(0.0), len(self.members))
        self._head: Head | None = None
        self._edges = RungEdges(len(self.members))
        self.state = self._edges
        self._usage = torch.zeros(len(self.members), dtype=torch.int64)

    @property
    def calibration_examples(self) -> int:  # type: ignore[override]
        """Those of the router, until the quantiles are known; one rung needs none."""
        return 0 if self._edges.known else self.router.examples

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Attach every expert.

        Raises:
            ValueError: The experts do not go together, the head has no such difficulty, or teachers are sharded.
        """
        refuse_sharding(accelerator, "a rank runs an expert only where its examples chose it")
        if head == "regression" and self.router.difficulty == "entropy":
            raise ValueError("a regression head has no entropy to go by; use difficulty: loss")
        super().attach(head=head, accelerator=accelerator)
        self._head = head

    def enter(self, index: int) -> float:
        """Make every expert's final revision the one that answers.

        Raises:
            ValueError: The experts are not ordered by size.
        """
        stall = super().enter(index)
        sizes = [sum(p.numel() for p in member.model.parameters()) for member in self.members]
        if sizes != sorted(sizes):
            raise ValueError(
                f"the rungs of a ladder go from the smallest expert to the largest, but they have {sizes} parameters; "
                "put them in order"
            )
        return stall

    def restart(self) -> None:
        """Forget the quantiles: another student may begin with other examples."""
        self._edges.forget()
        self.drain_usage()

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Mapping[str, Any]]) -> None:
        """Measure the quantiles of the difficulty.

        Raises:
            ValueError: There is no counted example, or a difficulty that is not finite.
        """
        seen = [
            difficulty_of(self._head, self._smallest(batch), batch, by=self.router.difficulty) for batch in batches
        ]
        known = torch.cat([one.value_B[one.counts_B] for one in seen]) if seen else torch.zeros(0)
        if len(known) < 2 or not bool(torch.isfinite(known).all()):
            raise ValueError(
                f"the ladder saw {len(known)} counted examples among the first {self.router.examples} (it needs 2 at "
                "least), or difficulties that are not finite; check the training data and the smallest expert"
            )
        self._edges.measure(known)

    def at(self, progress: float) -> None:
        """Open as many experts as the router's schedule says."""
        self._open = opened(self._schedule(progress), len(self.members))

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return each example's logits from its own expert.

        Shapes: (B, classes) or (B, T, V).

        Raises:
            ValueError: The quantiles have not been measured, or the batch has no labels to go by.
        """
        answers = self._smallest(inputs)
        if len(self.members) == 1:
            self._usage += torch.tensor([len(answers)])
            return answers
        if not self._edges.known:
            raise ValueError("the ladder does not know its quantiles yet; `calibrate` it on training examples first")
        found = difficulty_of(self._head, answers, inputs, by=self.router.difficulty)
        # The one wait for the device: which forwards there are depends on the answer.
        rungs = self._edges.rungs(found.value_B).clamp(max=self._open - 1).cpu()
        self._usage += torch.bincount(rungs[found.counts_B.cpu()], minlength=len(self.members))
        chosen = {rung: torch.nonzero(rungs == rung).flatten().to(answers.device) for rung in range(1, self._open)}
        if not any(len(rows) for rows in chosen.values()):
            return answers
        answers = at_least_float32(answers).clone()
        for rung, rows in chosen.items():
            if len(rows):
                answer = self.members[rung].logits(rows_of(inputs, rows, len(answers)))
                answers[rows] = self.shared(answer).to(answers.dtype)
        return answers

    def drain_usage(self) -> dict[str, Tensor]:
        """Return how many examples heard each expert since the last call."""
        usage, self._usage = self._usage, torch.zeros_like(self._usage)
        return {f"teacher/rung_{rung}": count for rung, count in enumerate(usage, 1)}

    def _smallest(self, inputs: Mapping[str, Any]) -> Tensor:
        return self.shared(self.members[0].logits(inputs))


class RungEdges(CheckpointedModule):
    """The difficulties at which one rung ends and the next begins.

    Args:
        rungs: M; there are M - 1 edges.
    """

    file_name: ClassVar[str] = "ladder.safetensors"
    what: ClassVar[str] = "ladder of teachers"

    def __init__(self, rungs: int) -> None:
        super().__init__()
        self.known = rungs == 1
        self._rungs = rungs
        if rungs > 1:
            self.register_buffer("edges", torch.zeros(rungs - 1, dtype=torch.float64))

    def measure(self, difficulties: Tensor) -> None:
        """Put the edges at the quantiles 1/M, ..., (M - 1)/M. Shapes: (N,), N at least 2."""
        ordered = difficulties.double().sort().values.cpu()
        below = [max(rung * len(ordered) // self._rungs, 1) for rung in range(1, self._rungs)]
        # Half-way between neighbours: rounding that depends on the batch moves no example across an edge.
        edges = [(ordered[count - 1] + ordered[count]) / 2 for count in below]
        self.get_buffer("edges").copy_(torch.stack(edges))
        self.known = True

    def rungs(self, difficulties: Tensor) -> Tensor:
        """Return the number, from 0, of each example's rung. Shapes: (B,) -> (B,)."""
        edges = self.get_buffer("edges").to(difficulties.device, difficulties.dtype)
        return torch.bucketize(difficulties, edges)

    def forget(self) -> None:
        """Go back to not knowing them."""
        self.known = self._rungs == 1

    def load(self, folder: Any) -> None:
        """Read the edges from a checkpoint; raises as `CheckpointedModule.load` does."""
        super().load(folder)
        self.known = True


class ExampleDifficulty(NamedTuple):
    """How hard each example of a batch is, and whether anything of it counts. Shapes: (B,), (B,)."""

    value_B: Tensor
    counts_B: Tensor


def difficulty_of(
    head: Head | None, logits: Tensor, inputs: Mapping[str, Any], *, by: Difficulty
) -> ExampleDifficulty:
    """Return how hard the examples of a batch are for the model that gave `logits`.

    Args:
        head: The kind of head.
        logits: (B, classes) or (B, T, V).
        inputs: The batch.
        by: `loss` on the labels (regression: squared error) or `entropy`, in nats; means over counted positions.

    Raises:
        ValueError: The batch has no labels to go by.
    """
    assert head is not None, "attach the ladder first"
    rows = select_rows(head, inputs)
    if by == "entropy":
        logs = at_least_float32(rows.of(logits)).log_softmax(-1)
        values_R = -(logs.exp() * logs).sum(-1)
    elif rows.labels_R is None:
        raise ValueError(
            "the ladder goes by the smallest expert's loss on the labels, but the batch has none; use difficulty: "
            "entropy"
        )
    else:
        name = "mean_squared_error" if head == "regression" else "cross_entropy"
        objective = OBJECTIVES.build({"name": name}, path="difficulty")
        values_R = objective.values(Signals(rows.of(logits), rows.labels_R), temperature=1.0)
    count = len(logits)
    owner_R = torch.arange(count, device=logits.device) if rows.mask is None else torch.nonzero(rows.mask)[:, 0]
    totals_B = torch.zeros(count, dtype=values_R.dtype, device=logits.device).index_add(0, owner_R, values_R)
    items_B = torch.bincount(owner_R, minlength=count)
    return ExampleDifficulty(totals_B / items_B.clamp(min=1), items_B > 0)


def rows_of(inputs: Mapping[str, Any], rows: Tensor, count: int) -> dict[str, Any]:
    """Return some examples of a batch of `count`; what does not go by example stays."""
    return {
        key: value[rows] if isinstance(value, Tensor) and value.dim() and len(value) == count else value
        for key, value in inputs.items()
    }
