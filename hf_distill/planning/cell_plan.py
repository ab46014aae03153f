"""What one curriculum of a recipe will need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hf_distill.curricula import CURRICULA, Plan, PlanContext
from hf_distill.curricula.intra import build_intra
from hf_distill.pipeline.cells import Cell
from hf_distill.planning.arithmetic import forward_flops, train_flops
from hf_distill.planning.memory import BatchShape
from hf_distill.planning.model_size import ModelSize
from hf_distill.planning.probe import Probe
from hf_distill.planning.stand_in import StandIn
from hf_distill.reading.layers import layer_count
from hf_distill.trainer import ProgressiveDistillTrainer

LAYERS = frozenset({"teacher.hidden_states", "teacher.attentions"})


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One curriculum of the recipe.

    Attributes:
        label: In the comparison.
        students: How many, one a seed.
        steps: Optimizer steps of one.
        teacher_steps: Those in which a teacher runs.
        examples_read: Examples of one run that each revision reads, as often as they come, by the revision's number.
        reads_layers: The teacher's layers are compared too, so that it is asked about one micro-batch at a time.
        flops: Of one student.
        probe: What its steps take on this machine; None where that was not measured.
    """

    label: str
    students: int
    steps: int
    teacher_steps: int
    examples_read: dict[int, int] = field(default_factory=dict)
    reads_layers: bool = False
    flops: float = 0.0
    probe: Probe | None = None

    @property
    def seconds(self) -> float | None:
        """Of all its students together, evaluations and saving left out; None where no step was measured."""
        return None if self.probe is None else self.students * self.steps * self.probe.step_seconds


def cell_plan(
    cells: Sequence[Cell],
    trainer: ProgressiveDistillTrainer,
    *,
    steps: int,
    student: ModelSize,
    teacher: ModelSize | None,
    stand_in: StandIn | None,
    shape: BatchShape,
    probe: Probe | None,
) -> CellPlan:
    """Return what the students of one curriculum will need.

    Args:
        cells: The curriculum's students.
        trainer: Of the first of them, with its training arguments.
        steps: Optimizer steps of one.
        student: The student's size.
        teacher: The teacher's.
        stand_in: For its revisions and configuration.
        shape: Of a micro-batch.
        probe: What its steps take, where that was measured.

    Raises:
        ValueError: The curriculum does not fit into the run.
    """
    args = trainer.args
    window = args.gradient_accumulation_steps * args.world_size
    plan = _stages(cells[0], trainer, steps, stand_in)
    starts = [0, *plan.switches]
    read: Counter[int] = Counter()
    teacher_steps, reads_layers = 0, False
    for stage, start, end in zip(plan.stages, starts, [*starts[1:], steps], strict=False):
        if stage.revision is not None and any(term.objective.uses_teacher for term in stage.terms):
            teacher_steps += end - start
            reads_layers = reads_layers or bool(stage.needs & LAYERS)
            read[stage.revision] += (end - start) * window * shape.examples
    passes = max(stage.passes for stage in plan.stages)
    causal = trainer.distillation.head == "causal_lm"
    flops = steps * window * passes * train_flops(student, shape, causal=causal)
    flops += teacher_steps * window * forward_flops(teacher, shape, causal=causal) if teacher is not None else 0.0
    return CellPlan(
        label=cells[0].label,
        students=len(cells),
        steps=steps,
        teacher_steps=teacher_steps,
        examples_read=dict(read),
        reads_layers=reads_layers,
        flops=flops,
        probe=probe,
    )


def _stages(cell: Cell, trainer: ProgressiveDistillTrainer, steps: int, stand_in: StandIn | None) -> Plan:
    curriculum = CURRICULA.build(cell.curriculum, path="curriculum")
    revisions = stand_in.revisions if stand_in is not None else []
    if curriculum.needs_scores and revisions:
        # Which revision `auto` is, the scores will tell; any but the final one has its place in the plan.
        curriculum = curriculum.with_chosen(revisions[0].name)
    context = PlanContext(head=trainer.distillation.head, max_steps=steps, revisions=revisions)
    if stand_in is not None and "student.hidden_states" in curriculum.needs(context):
        counts = (layer_count(trainer.model.config), layer_count(stand_in.model.config))
        context = replace(context, student_layers=counts[0], teacher_layers=counts[1])
    plan, intra = curriculum.plan(context), build_intra(curriculum.intra)
    if intra is not None:
        plan.stages = tuple(intra.extend(stage, context.head) for stage in plan.stages)
    return plan
