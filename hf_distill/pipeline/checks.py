"""Everything a recipe needs, built once before any training, so that mistakes surface while nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_distill.curricula import CURRICULA
from hf_distill.pipeline.adapter import check_adapter
from hf_distill.pipeline.cells import Cell, build_trainer, one_of_each, task_of
from hf_distill.pipeline.downstream_checks import check_downstream, check_finetune_keys
from hf_distill.pipeline.open_targets import stand_in_of
from hf_distill.pipeline.places import at, said_of
from hf_distill.pipeline.plan_check import check_plan
from hf_distill.pipeline.training_arguments import checked_training
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe, available_recipes
from hf_distill.recipe.teacher_spec import TeacherSpec
from hf_distill.tasks import Task
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.quantization import build_quantization


def check_keys(recipe: Recipe) -> None:
    """Check every curriculum and training block of a recipe, for which no model, data or folder is needed.

    It comes before the folder is claimed: a typo would make the recipe another one than the folder holds.

    Raises:
        ValueError: An unknown key, or a value of the wrong type or range.
    """
    check_adapter(recipe.student, on_cpu=bool(recipe.training.get("use_cpu")))
    check_finetune_keys(recipe)
    task = task_of(recipe)
    checked_training(recipe.training, task=task, path="training")
    for label, spec in recipe.curricula().items():
        path, curriculum = recipe.curriculum_path(label), dict(spec)
        checked_training(curriculum.pop("training", {}), task=task, path=f"{path}.training")
        CURRICULA.build(curriculum, path=path)
    if recipe.teacher is not None:
        _check_teacher_keys(recipe.teacher, task)


def _check_teacher_keys(teacher: TeacherSpec, task: Task) -> None:
    members = teacher.ensemble.members if teacher.ensemble is not None else []
    paths = ["teacher", *(f"teacher.ensemble.members[{place}]" for place in range(len(members)))]
    for path, spec in zip(paths, [teacher, *members], strict=True):
        build_quantization(spec.quantization, path=f"{path}.quantization")
        if spec.train is not None:
            checked_training(spec.train.training, task=task, path=f"{path}.train.training")
    for place, assistant in enumerate(teacher.assistants):
        path = f"teacher.assistants[{place}]"
        checked_training(assistant.training, task=task, path=f"{path}.training")
        CURRICULA.build(assistant.curriculum, path=f"{path}.curriculum")


def check_before_training(recipe: Recipe, task: Task, workspace: Workspace, cells: list[Cell]) -> None:
    """Build every model and data set of a recipe and lay out its stages, as far as they are known.

    For a teacher, a member or an assistant that the recipe trains first, its untrained model stands in, with the
    checkpoints that its training arguments promise.

    Raises:
        ValueError: A curriculum, model, data set, teacher or training argument that cannot work.
    """
    check_keys(recipe)
    refuse_pushes_over_one_another(cells)
    refuse_what_another_recipe_makes(recipe)
    teacher: TeacherSource | None = None
    if recipe.teacher is not None and cells:
        teacher = stand_in_of(recipe, task, workspace)
    # Which revision `auto` is, the scores will tell; any but the final one has the place in the plan.
    chosen = teacher.revisions[0].name if teacher is not None and len(teacher.revisions) > 1 else None
    check_plans(recipe, task, teacher, workspace, cells, chosen=chosen)
    check_downstream(recipe, task, workspace)


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


def refuse_what_another_recipe_makes(recipe: Recipe) -> None:
    """Say which recipe of the package is to be run first where teacher or student is what it leaves, and is not there.

    Raises:
        ValueError: The model's folder is missing below the `output_dir` of such a recipe.
    """
    sources = {"student.model.pretrained": recipe.student.model.get("pretrained")}
    sources["teacher.source"] = recipe.teacher.source if recipe.teacher is not None else None
    for key, source in sources.items():
        if not isinstance(source, str) or Path(source).exists():
            continue
        for info in available_recipes():
            if Path(source).is_relative_to(Recipe.load(info.name).output_dir):
                raise ValueError(
                    f"{key}: {source} is not there; it comes from another recipe. First, from this folder: "
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
    for cell in one_of_each(cells):
        path = recipe.curriculum_path(cell.label)
        with said_of("curriculum", path):
            trainer = build_trainer(cell, recipe, task, teacher, workspace)
        with at(path):
            check_plan(trainer, chosen=chosen, problem=problem)
