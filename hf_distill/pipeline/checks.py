"""Everything a recipe needs, built once before any training, so that mistakes surface while nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.curricula import CURRICULA
from hf_distill.pipeline.cells import Cell, build_trainer
from hf_distill.pipeline.teacher import open_teacher, teacher_trainer
from hf_distill.pipeline.training_arguments import checked_training
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe import Recipe, available_recipes
from hf_distill.switching import restarting_schedule
from hf_distill.tasks import Task
from hf_distill.teachers import LiveTeacher, TeacherSource
from hf_distill.teachers.revisions import Revision
from hf_distill.trainer import ProgressiveDistillTrainer


def check_keys(recipe: Recipe) -> None:
    """Check every curriculum and training block of a recipe, for which no model, data or folder is needed.

    It comes before the folder is claimed: a typo would make the recipe another one than the folder holds.

    Raises:
        ValueError: An unknown key, or a value of the wrong type or range.
    """
    checked_training(recipe.training, path="training")
    for label, spec in recipe.curricula().items():
        path, curriculum = f"compare.{label}" if recipe.compare else "curriculum", dict(spec)
        checked_training(curriculum.pop("training", {}), path=f"{path}.training")
        CURRICULA.build(curriculum, path=path)
    if recipe.teacher is not None and recipe.teacher.train is not None:
        checked_training(recipe.teacher.train.training, path="teacher.train.training")


def check_before_training(recipe: Recipe, task: Task, workspace: Workspace, cells: list[Cell]) -> None:
    """Build every model and data set of a recipe and lay out its stages, as far as they are known.

    For a teacher that the recipe trains first, its untrained model stands in, with the checkpoints that its training
    arguments promise.

    Raises:
        ValueError: A curriculum, model, data set, teacher or training argument that cannot work.
    """
    check_keys(recipe)
    refuse_pushes_over_one_another(cells)
    refuse_a_teacher_that_another_recipe_makes(recipe)
    teacher: TeacherSource | None = None
    if recipe.teacher is not None:
        trained = recipe.teacher.train is not None
        teacher = _stand_in(recipe, task, workspace) if trained else open_teacher(recipe, workspace)
    # Which revision `auto` is, the scores will tell; any but the final one has the place in the plan.
    chosen = teacher.revisions[0].name if teacher is not None and len(teacher.revisions) > 1 else None
    check_plans(recipe, task, teacher, workspace, cells, chosen=chosen)


def refuse_pushes_over_one_another(cells: Sequence[Cell]) -> None:
    """Refuse to push several students to one repository, where the last would replace all others.

    Raises:
        ValueError: Two students have one `hub_model_id`.
    """
    wanted = [cell.training.get("hub_model_id") for cell in cells if cell.training.get("push_to_hub")]
    repeated = {repository for repository in wanted if repository is not None and wanted.count(repository) > 1}
    if repeated:
        raise ValueError(
            f"training.hub_model_id: {wanted.count(next(iter(repeated)))} students would be pushed to "
            f"{sorted(repeated)[0]!r}, one over another; leave push_to_hub out and push the one you choose with "
            "`hf-distill push`"
        )


def refuse_a_teacher_that_another_recipe_makes(recipe: Recipe) -> None:
    """Say which recipe of the package is to be run first where the teacher is what it leaves, and is not there.

    Raises:
        ValueError: The teacher's folder is missing below the `output_dir` of such a recipe.
    """
    source = recipe.teacher.source if recipe.teacher is not None else None
    if not isinstance(source, str) or Path(source).exists():
        return
    for info in available_recipes():
        if Path(source).is_relative_to(Recipe.load(info.name).output_dir):
            raise ValueError(
                f"teacher.source: {source} is not there; it comes from another recipe. First, from this folder: "
                f"hf-distill run {info.name}"
            )


def check_plans(
    recipe: Recipe,
    task: Task,
    teacher: TeacherSource | None,
    workspace: Workspace,
    cells: list[Cell],
    *,
    chosen: str | None,
    problem: str | None = None,
) -> None:
    """Build the trainer of each curriculum and lay out its stages over the teacher's revisions.

    Args:
        recipe: What is to be run.
        task: Its task.
        teacher: Its teacher, or a stand-in without revisions, for which no stages can be laid out.
        workspace: Its folder.
        cells: Its students; one of each curriculum is looked at.
        chosen: The revision that `auto` stands for.
        problem: Why there is none, where the teacher has several revisions.

    Raises:
        ValueError: Student, teacher, data and curriculum do not fit together, a revision does not exist, a stage does
            not fit into the run, or `auto` is asked for and there is no such revision.
    """
    for label in dict.fromkeys(cell.label for cell in cells):
        cell = next(cell for cell in cells if cell.label == label)
        trainer = build_trainer(cell, recipe, task, teacher, workspace)
        distillation = trainer.distillation
        if distillation.teacher is not None and not distillation.teacher.revisions:
            continue
        if distillation.curriculum.needs_scores:
            if chosen is None:
                why = problem or "the teacher has one revision only"
                raise ValueError(f"{label}: no revision can be chosen by `auto`: {why}")
            distillation.chosen_revision = chosen
        try:
            steps = planned_steps(trainer)
            plan = distillation.make_plan(steps)
            if trainer.at_switch == "restart":
                nobody = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
                restarting_schedule(trainer.args, nobody, plan, steps)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from error


def planned_steps(trainer: ProgressiveDistillTrainer) -> int:
    """Return the optimizer steps of a run: `max_steps`, or what the epochs come to."""
    if trainer.args.max_steps > 0:
        return trainer.args.max_steps
    return trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]


def _stand_in(recipe: Recipe, task: Task, workspace: Workspace) -> LiveTeacher:
    assert recipe.teacher is not None and recipe.teacher.train is not None
    data = task.prepare(seed=recipe.teacher.train.seed, cache_dir=workspace.cache)
    trainer = teacher_trainer(recipe, task, data, workspace)
    teacher = LiveTeacher(trainer.model, tokenizer=data.tokenizer)
    teacher.revisions = promised_revisions(trainer.args)
    return teacher


def promised_revisions(args: ProgressiveDistillConfig) -> list[Revision]:
    """Return the checkpoints that a training will leave at most; none where its arguments do not tell their steps."""
    interval = args.save_steps
    if args.save_strategy != "steps" or interval < 1 or interval != int(interval) or args.max_steps < 1:
        return []
    steps = dict.fromkeys([*range(int(interval), args.max_steps + 1, int(interval)), args.max_steps])
    return [
        Revision(name=f"checkpoint-{step}", step=step, source="to be trained", revision=None, commit="")
        for step in steps
    ]
