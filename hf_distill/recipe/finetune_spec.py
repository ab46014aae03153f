"""The `finetune:` block of a recipe: tasks on which the finished students are fine-tuned with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_distill.recipe.blocks import FOLDER_NAME, check_free, check_seed, check_training, require
from hf_distill.recipe.teacher_spec import TeacherSpec
from hf_distill.wording import given

FROM_SCRATCH = "from_scratch"
TEACHER = "teacher"
STUDENT = "student"
"""Label of the student of a recipe that distils nothing."""


@dataclass(kw_only=True)
class FinetuneSpec:
    """One task that students are fine-tuned on, each from where its distillation ended, with its baselines."""

    name: str = field(metadata={"help": "Names the results and their folder."})
    task: dict[str, Any] = field(
        metadata={"help": "`name` of a task and its options, without `tokenizer`: the student's own reads the text."}
    )
    training: dict[str, Any] = field(default_factory=dict, metadata={"help": "Training arguments of the fine-tuning."})
    seeds: list[int] | None = field(
        default=None,
        metadata={"help": "Of the fine-tunings; each begins with the student of its seed. Null: the recipe's."},
    )
    from_scratch: bool = field(
        default=True, metadata={"help": "Also train the student's architecture from new weights, as the baseline."}
    )
    teacher: bool = field(default=False, metadata={"help": "Also fine-tune the finished teacher."})


def check_finetune(
    specs: Sequence[FinetuneSpec], *, labels: Sequence[str], seeds: Sequence[int], teacher: TeacherSpec | None
) -> None:
    """Refuse blocks that cannot be run.

    Args:
        specs: The blocks.
        labels: Of the recipe's curricula; none where it distils nothing.
        seeds: Of the recipe.
        teacher: Of the recipe.

    Raises:
        ValueError: The message begins with the key path and says what to do.
    """
    names = [spec.name for spec in specs]
    for place, spec in enumerate(specs):
        path = f"finetune[{place}]"
        require(
            FOLDER_NAME.fullmatch(spec.name) is not None,
            f"{path}.name: {spec.name!r} names a folder; use letters, digits, - and _ only.",
        )
        require(names.count(spec.name) == 1, f"{path}.name: {spec.name!r} is there twice; give each its own name.")
        name = spec.task.get("name")
        require(isinstance(name, str), f"{path}.task.name: expected the name of a task, got {given(name)}.")
        check_free(spec.task, f"{path}.task")
        require(
            "tokenizer" not in spec.task,
            f"{path}.task.tokenizer: not here; the student's own tokenizer reads the text of this task too.",
        )
        check_training(spec.training, f"{path}.training")
        _check_seeds(spec, path, labels, seeds)
        _check_baselines(spec, path, labels, teacher)


def _check_seeds(spec: FinetuneSpec, path: str, labels: Sequence[str], seeds: Sequence[int]) -> None:
    if spec.seeds is None:
        return
    require(bool(spec.seeds), f"{path}.seeds: empty; give at least one, or leave it out for the recipe's.")
    require(len(set(spec.seeds)) == len(spec.seeds), f"{path}.seeds: {spec.seeds} lists a seed twice.")
    for index, seed in enumerate(spec.seeds):
        check_seed(seed, f"{path}.seeds[{index}]")
        require(
            not labels or seed in seeds,
            f"{path}.seeds[{index}]: no student of seed {seed} is distilled, only of {list(seeds)}; each fine-tuning "
            "begins with the student of its seed.",
        )


def _check_baselines(spec: FinetuneSpec, path: str, labels: Sequence[str], teacher: TeacherSpec | None) -> None:
    for taken, wanted in ((FROM_SCRATCH, spec.from_scratch), (TEACHER, spec.teacher)):
        require(
            not wanted or taken not in labels,
            f"{path}.{taken}: a curriculum has this label too; give the curriculum another, or set {taken}: false.",
        )
    require(
        not spec.teacher or (teacher is not None and teacher.is_one_model),
        f"{path}.teacher: there is no one teacher to fine-tune; give `teacher.source` or `teacher.train`, or leave "
        "this out.",
    )
    require(
        not spec.teacher or bool(labels) or (teacher is not None and teacher.source is not None),
        f"{path}.teacher: this recipe distils nothing, so it trains no teacher either; give `teacher.source`, or "
        "leave this out.",
    )
