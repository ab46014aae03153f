"""What a recipe must hold beside the right types: combinations that make sense, and messages that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_distill.recipe.blocks import FOLDER_NAME, check_free, check_name, check_seed, check_training, require
from hf_distill.recipe.finetune_spec import check_finetune
from hf_distill.recipe.student_checks import adapter_export, check_student
from hf_distill.recipe.teacher_checks import check_teacher
from hf_distill.wording import given

if TYPE_CHECKING:
    from hf_distill.recipe.recipe import Recipe


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be run.

    What needs a task, a model or TrainingArguments to be known (their options, the revisions there are) is checked
    where those are built.

    Raises:
        ValueError: The message begins with the key path and says what to do.
    """
    require(recipe.output_dir.strip() != "", "output_dir: empty; give the folder for everything the run leaves.")
    require(recipe.name.strip() != "", "name: empty; give the recipe a short name.")
    check_name(recipe.task, "task")
    check_free(recipe.task, "task")
    check_student(recipe.student, recipe.teacher)
    check_training(recipe.training, "training")
    _check_seeds(recipe.seeds)
    _check_curricula(recipe)
    check_finetune(recipe.finetune, labels=list(recipe.curricula()), seeds=recipe.seeds, teacher=recipe.teacher)
    require(
        not recipe.finetune or adapter_export(recipe.student) != "adapter",
        "finetune: begins with a student's whole weights, and this one is exported as an adapter alone; set "
        "student.export: merged.",
    )
    if recipe.teacher is not None:
        check_teacher(recipe.teacher)
        own = recipe.teacher.self_teacher
        if own is not None and own.name == "adapter_off" and recipe.student.lora is None:
            raise ValueError(
                "teacher.self_teacher: the student has no adapter to switch off; give `student.lora`, or use `ema`."
            )
    _check_teacher_is_there(recipe)


def _check_curricula(recipe: Recipe) -> None:
    if recipe.compare is None:
        if recipe.curriculum is None and recipe.finetune:
            _check_nothing_to_distil(recipe)
            return
        if recipe.curriculum is None:
            raise ValueError("curriculum: missing; give `curriculum: {name: ...}`, or several under `compare`.")
        check_name(recipe.curriculum, "curriculum")
        _check_curriculum(recipe.curriculum, "curriculum")
        return
    if recipe.curriculum is not None:
        raise ValueError("compare: `curriculum` is given too; move it into `compare`, or remove one of them.")
    require(bool(recipe.compare), "compare: empty; give at least one `label: {name: ...}`, or use `curriculum`.")
    for label, curriculum in recipe.compare.items():
        path = f"compare.{label}"
        require(
            FOLDER_NAME.fullmatch(label) is not None,
            f"{path}: the label names a folder; use letters, digits, - and _ only.",
        )
        _check_curriculum(curriculum, path)


def _check_nothing_to_distil(recipe: Recipe) -> None:
    require(
        "pretrained" in recipe.student.model and recipe.student.lora is None,
        "curriculum: missing, so that nothing is distilled and `finetune` would begin with an untrained student; give "
        "`curriculum` or `compare`, or `student.model: {pretrained: ORG/NAME}` without `lora`.",
    )


def _check_curriculum(curriculum: Mapping[str, Any], path: str) -> None:
    if "name" in curriculum:
        check_name(curriculum, path)
    check_free(curriculum, path)
    overrides = curriculum.get("training", {})
    if not isinstance(overrides, Mapping):
        raise ValueError(f"{path}.training: expected a mapping of training arguments, got {given(overrides)}.")
    check_training(overrides, f"{path}.training")


def _check_teacher_is_there(recipe: Recipe) -> None:
    if recipe.teacher is not None:
        return
    for label, curriculum in recipe.curricula().items():
        if curriculum["name"] != "labels":
            path = recipe.curriculum_path(label)
            _check_curriculum_is_there(curriculum["name"], path)
            raise ValueError(
                f"teacher: missing, but {path} is {curriculum['name']!r}, which learns from one. Give "
                "`teacher.source` or `teacher.train`, or use the curriculum `labels`."
            )


def _check_curriculum_is_there(name: str, path: str) -> None:
    # Read only where a recipe is refused in any case: it brings torch.
    from hf_distill.curricula import CURRICULA

    try:
        CURRICULA.get(name)
    except ValueError as error:
        raise ValueError(f"{path}.name: {error}") from error


def _check_seeds(seeds: list[int]) -> None:
    if not seeds:
        raise ValueError("seeds: empty; give at least one, for example [0].")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: {seeds} would train the same student twice; list each seed once.")
    for index, seed in enumerate(seeds):
        check_seed(seed, f"seeds[{index}]")
