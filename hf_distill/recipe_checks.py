"""What a recipe must hold beside the right types: combinations that make sense, and messages that say what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_distill.strict_dataclass import check_known_keys
from hf_distill.teachers.selection import read_selection
from hf_distill.wording import given, join_path

if TYPE_CHECKING:
    from hf_distill.recipe import Recipe, TeacherSpec

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FRESH_MODEL = ("architecture", "config")
_PRETRAINED_MODEL = ("pretrained", "revision", "dtype", "trust_remote_code")
_LARGEST_SEED = 2**32 - 1
_IN_RECORD = "recipes are kept in records and published; log in with `hf auth login` or set HF_TOKEN instead"
_ELSEWHERE = {
    "output_dir": "use the recipe's top-level `output_dir`; every student gets its own folder below it",
    "seed": "use the top-level `seeds` for students and `teacher.train.seed` for the teacher",
    "data_seed": "use the top-level `seeds` for students and `teacher.train.seed` for the teacher",
    "curriculum": "use the top-level `curriculum` or `compare`",
    "hub_token": _IN_RECORD,
    "push_to_hub_token": _IN_RECORD,
}


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be run.

    What needs a task, a model or TrainingArguments to be known (their options, the revisions there are) is checked
    where those are built.

    Raises:
        ValueError: The message begins with the key path and says what to do.
    """
    _require(recipe.output_dir.strip() != "", "output_dir: empty; give the folder for everything the run leaves.")
    _require(recipe.name.strip() != "", "name: empty; give the recipe a short name.")
    _check_name(recipe.task, "task")
    _check_free(recipe.task, "task")
    _check_model(recipe.student.model, "student.model")
    _check_training(recipe.training, "training")
    _check_seeds(recipe.seeds)
    _check_curricula(recipe)
    if recipe.teacher is not None:
        _check_teacher(recipe.teacher)
    _check_teacher_is_there(recipe)


def _check_curricula(recipe: Recipe) -> None:
    if recipe.compare is None:
        if recipe.curriculum is None:
            raise ValueError("curriculum: missing; give `curriculum: {name: ...}`, or several under `compare`.")
        _check_name(recipe.curriculum, "curriculum")
        _check_curriculum(recipe.curriculum, "curriculum")
        return
    if recipe.curriculum is not None:
        raise ValueError("compare: `curriculum` is given too; move it into `compare`, or remove one of them.")
    _require(bool(recipe.compare), "compare: empty; give at least one `label: {name: ...}`, or use `curriculum`.")
    for label, curriculum in recipe.compare.items():
        path = f"compare.{label}"
        _require(
            _LABEL.fullmatch(label) is not None,
            f"{path}: the label names a folder; use letters, digits, - and _ only.",
        )
        _check_curriculum(curriculum, path)


def _check_curriculum(curriculum: Mapping[str, Any], path: str) -> None:
    if "name" in curriculum:
        _check_name(curriculum, path)
    _check_free(curriculum, path)
    overrides = curriculum.get("training", {})
    if not isinstance(overrides, Mapping):
        raise ValueError(f"{path}.training: expected a mapping of training arguments, got {given(overrides)}.")
    _check_training(overrides, f"{path}.training")


def _check_teacher(teacher: TeacherSpec) -> None:
    if teacher.source is not None and teacher.train is not None:
        raise ValueError("teacher: both `source` and `train` are given; keep one.")
    if teacher.train is not None:
        _check_model(teacher.train.model, "teacher.train.model")
        _check_training(teacher.train.training, "teacher.train.training")
        _check_seed(teacher.train.seed, "teacher.train.seed")
        return
    if teacher.source is None:
        raise ValueError("teacher: give `source` (a repository or folder) or `train` (to train it first).")
    if teacher.max_cached_gb is not None and not teacher.max_cached_gb > 0:
        raise ValueError(f"teacher.max_cached_gb: expected a number above 0, or null, got {teacher.max_cached_gb}.")
    if isinstance(teacher.source, Mapping):
        read_selection(teacher.source, path="teacher.source")
        return
    sources = [teacher.source] if isinstance(teacher.source, str) else teacher.source
    if not sources or not all(source.strip() for source in sources):
        raise ValueError(f"teacher.source: expected a repository or folder, or a list of them, got {given(sources)}.")


def _check_teacher_is_there(recipe: Recipe) -> None:
    if recipe.teacher is not None:
        return
    for label, curriculum in recipe.curricula().items():
        if curriculum["name"] != "labels":
            path = "curriculum" if recipe.compare is None else f"compare.{label}"
            raise ValueError(
                f"teacher: missing, but {path} is {curriculum['name']!r}, which learns from one. Give "
                "`teacher.source` or `teacher.train`, or use the curriculum `labels`."
            )


def _check_model(model: Mapping[str, Any], path: str) -> None:
    check_known_keys(model, (*_FRESH_MODEL, *_PRETRAINED_MODEL), path=path)
    _check_free(model, path)
    kinds = [key for key in ("architecture", "pretrained") if key in model]
    if len(kinds) != 1:
        raise ValueError(
            f"{path}: give either `architecture` (a fresh model, with `config`) or `pretrained` (a repository or "
            f"folder, with `revision`), got {' and '.join(kinds) or 'neither'}."
        )
    kind = kinds[0]
    if not isinstance(model[kind], str) or not model[kind].strip():
        raise ValueError(f"{path}.{kind}: expected text, got {given(model[kind])}.")
    for stray in set(model) - set(_FRESH_MODEL if kind == "architecture" else _PRETRAINED_MODEL):
        raise ValueError(f"{path}.{stray}: does not go with `{kind}`; remove it.")


def _check_training(training: Mapping[str, Any], path: str) -> None:
    for key, instead in _ELSEWHERE.items():
        if key in training:
            raise ValueError(f"{path}.{key}: not here; {instead}.")
    _check_free(training, path)


def _check_seeds(seeds: list[int]) -> None:
    if not seeds:
        raise ValueError("seeds: empty; give at least one, for example [0].")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: {seeds} would train the same student twice; list each seed once.")
    for index, seed in enumerate(seeds):
        _check_seed(seed, f"seeds[{index}]")


def _check_seed(seed: int, path: str) -> None:
    _require(0 <= seed <= _LARGEST_SEED, f"{path}: expected an int from 0 to {_LARGEST_SEED}, got {seed}.")


def _check_name(mapping: Mapping[str, Any], path: str) -> None:
    name = mapping.get("name")
    if not isinstance(name, str) or not name.strip():
        kind = "task" if path == "task" else "curriculum"
        raise ValueError(f"{path}.name: expected the name of a {kind}, got {given(name)}.")


def _check_free(value: Any, path: str) -> None:
    """Refuse what would not come back equal from YAML and JSON, in the blocks without a dataclass of their own."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require(isinstance(key, str), f"{path}: the key {key!r} is not text; put it in quotes.")
            _check_free(item, join_path(path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_free(item, f"{path}[{index}]")
    elif isinstance(value, float):
        _require(math.isfinite(value), f"{path}: expected a finite number, got {value}.")
    elif value is not None and not isinstance(value, (bool, int, str)):
        raise ValueError(
            f"{path}: expected text, a number, true/false, null, a list or a mapping, got {given(value)}."
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
