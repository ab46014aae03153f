"""Untrained models in the place of those that a recipe trains, so that everything can be checked before training."""

from __future__ import annotations

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.pipeline.faculty import assistant_of, ensemble_of, ladder_of, self_teacher, with_pruned
from hf_distill.pipeline.places import at
from hf_distill.pipeline.plan_check import check_plan
from hf_distill.pipeline.teacher import open_model
from hf_distill.pipeline.trained_teacher import TrainedTeacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.teacher_spec import AssistantTraining, ModelSpec, TeacherSpec
from hf_distill.recipe.teaching import member_name
from hf_distill.tasks import Task
from hf_distill.teachers import LiveTeacher, TeacherSource
from hf_distill.teachers.revisions import Revision
from hf_distill.teachers.sharding import is_in_pieces


class StandIns:
    """Builds what stands in for a recipe's teachers.

    Args:
        spec: The recipe's teacher.
        task: Its task.
        workspace: Folders that nothing is written to but data.
    """

    def __init__(self, spec: TeacherSpec, task: Task, workspace: Workspace) -> None:
        self.spec, self.task, self.workspace = spec, task, workspace

    def source(self) -> TeacherSource:
        """Return what stands in for the students' teacher; those who come before it are built and checked too.

        A model to be trained has the checkpoints that its training arguments promise, or no revisions where they do
        not tell.

        Raises:
            ValueError: A model, data, an argument or a curriculum of one of them that cannot work.
        """
        if self.spec.self_teacher is not None:
            return self_teacher(self.spec.self_teacher)
        if self.spec.ensemble is not None:
            members = [self._member(place, one) for place, one in enumerate(self.spec.ensemble.members, 1)]
            source: TeacherSource = ensemble_of(self.spec.ensemble, members)
        else:
            source = self._one_model()
        rungs = [source]
        for place, assistant in enumerate(self.spec.assistants, 1):
            source = self._assistant(place, assistant, source)
            rungs.insert(0, source)
        return source if self.spec.route is None else self._ladder(rungs)

    def _one_model(self) -> TeacherSource:
        if self.spec.train is None:
            return with_pruned(self.spec, open_model(self.spec, self.workspace.teacher))
        trained = TrainedTeacher(
            name="teacher", training=self.spec.train, folder=self.workspace.teacher, path="teacher.train"
        )
        stand_in = self._untrained(trained)
        return with_pruned(self.spec, stand_in) if stand_in.revisions else stand_in

    def _member(self, place: int, spec: ModelSpec) -> TeacherSource:
        folder, path = self.workspace.member(place), f"teacher.ensemble.members[{place - 1}].train"
        if spec.train is None:
            return open_model(spec, folder)
        trained = TrainedTeacher(name=member_name(place), training=spec.train, folder=folder, path=path)
        return self._untrained(trained, promised=False)

    def _assistant(self, place: int, spec: AssistantTraining, teacher: TeacherSource) -> TeacherSource:
        return self._untrained(assistant_of(place, spec, self.workspace), teacher=teacher)

    def _untrained(
        self, trained: TrainedTeacher, *, teacher: TeacherSource | None = None, promised: bool = True
    ) -> LiveTeacher:
        data = self.task.prepare(seed=trained.training.seed, cache_dir=self.workspace.cache)
        trainer = trained.trainer(self.task, data, teacher=teacher)
        if teacher is not None:
            # Which revision `auto` is, the scores will tell; any but the final one has the place in the plan.
            chosen = teacher.revisions[0].name if len(teacher.revisions) > 1 else None
            with at(trained.path):
                check_plan(trainer, chosen=chosen)
        # ZeRO-3 splits what is built.
        stand_in = LiveTeacher(trainer.model, tokenizer=data.tokenizer, sharded=is_in_pieces(trainer.model))
        if promised:
            stand_in.revisions = promised_revisions(trainer.args)
        return stand_in

    def _ladder(self, rungs: list[TeacherSource]) -> TeacherSource:
        untrained = [rung for rung in rungs if isinstance(rung, LiveTeacher)]
        for rung in untrained:
            # Only the final revision of a rung is heard, and only that one is in memory.
            rung.revisions = rung.revisions[-1:] or [_unknown()]
        ladder = ladder_of(self.spec, rungs)
        if len(untrained) == len(rungs):
            with at("teacher.assistants"):
                ladder.enter(0)
        return ladder


def promised_revisions(args: ProgressiveDistillConfig) -> list[Revision]:
    """Return the checkpoints that a training will leave at most; none where its arguments do not tell their steps."""
    interval = args.save_steps
    if args.save_strategy != "steps" or interval < 1 or interval != int(interval) or args.max_steps < 1:
        return []
    steps = dict.fromkeys([*range(int(interval), args.max_steps + 1, int(interval)), args.max_steps])
    return [_unknown(name=f"checkpoint-{step}", step=step) for step in steps]


def _unknown(name: str = "final", step: int | None = None) -> Revision:
    return Revision(name=name, step=step, source="to be trained", revision=None, commit="")
