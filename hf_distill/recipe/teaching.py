"""Who teaches whom in a recipe, in words: for the check before a run, the record and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hf_distill.recipe.teacher_spec import EnsembleSpec, ModelSpec, PrunedSpec, TeacherSpec, TeacherTraining

TRAINED_HERE = "trained by this recipe"


class Role(NamedTuple):
    """One who takes part: its name in the recipe's terms, what it is, and from whom it learns."""

    name: str
    what: str
    learns_from: str


def roles(teacher: TeacherSpec) -> list[Role]:
    """Return those that take part in a recipe's teaching, in the order of their training, the students last."""
    found = []
    if teacher.ensemble is not None:
        found = [_role(member_name(place), one) for place, one in enumerate(teacher.ensemble.members, 1)]
    elif teacher.is_one_model:
        found = [_role("teacher", teacher)]
    for place, assistant in enumerate(teacher.assistants, 1):
        learned_from = learning_text(assistant.curriculum, assistants_teacher(teacher, place))
        found.append(Role(assistant_name(place), model_text(assistant.model), learned_from))
    return [*found, Role("students", "", students_learn_from(teacher))]


def _role(name: str, spec: ModelSpec) -> Role:
    if spec.train is None:
        return Role(name, source_text(spec), "")
    return Role(name, model_text(spec.train.model), "labels")


def learning_text(curriculum: Mapping[str, Any], teacher: str) -> str:
    """Return from whom and how an assistant learns."""
    return "labels" if curriculum["name"] == "labels" else f"{teacher}, by {curriculum['name']}"


def assistants_teacher(teacher: TeacherSpec, place: int) -> str:
    """Return who teaches an assistant, counted from 1: the one before it."""
    return assistant_name(place - 1) if place > 1 else base_text(teacher)


def students_learn_from(teacher: TeacherSpec) -> str:
    """Return whom the students hear."""
    if teacher.self_teacher is not None:
        return {"ema": "their own moving average", "adapter_off": "themselves without the adapter"}[
            teacher.self_teacher.name
        ]
    if teacher.route is not None:
        rungs = [assistant_name(place) for place in range(len(teacher.assistants), 0, -1)]
        return f"a ladder: {' < '.join([*rungs, base_text(teacher)])}; chosen {teacher.route.formula()}"
    return assistant_name(len(teacher.assistants)) if teacher.assistants else base_text(teacher)


def base_text(teacher: TeacherSpec) -> str:
    """Return the teacher above all assistants."""
    if teacher.ensemble is not None:
        return ensemble_text(teacher.ensemble)
    return "the teacher" if teacher.pruned is None else pruned_text(teacher.pruned)


def ensemble_text(ensemble: EnsembleSpec) -> str:
    """Return what an ensemble is."""
    return f"an ensemble of {len(ensemble.members)} (mean of {ensemble.average})"


def pruned_text(pruned: PrunedSpec) -> str:
    """Return what a pruned mix is."""
    return f"the teacher mixed with its pruned copy ({100 * pruned.rate:g} % zeroed, {1 - pruned.weight:g} of the mix)"


def assistant_name(place: int) -> str:
    """Return the name of an assistant, counted from 1."""
    return f"assistant {place}"


def member_name(place: int) -> str:
    """Return the name of an ensemble's member, counted from 1."""
    return f"member {place}"


def source_text(spec: ModelSpec) -> str:
    """Return where a teacher comes from."""
    if spec.source is None:
        return TRAINED_HERE
    entries = spec.source["revisions"] if isinstance(spec.source, Mapping) else spec.source
    return entries if isinstance(entries, str) else ", ".join(entries)


def model_text(model: Mapping[str, Any]) -> str:
    """Return a `model:` block of a recipe: where it came from, or its architecture and configuration."""
    if model.get("pretrained"):
        return "@".join(str(model[key]) for key in ("pretrained", "revision") if model.get(key))
    config = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in (model.get("config") or {}).items())
    return f"{model['architecture']}{f' ({config})' if config else ''}"


def kind_of(teacher: TeacherSpec) -> str:
    """Return what kind of source teaches the students, under one word."""
    if teacher.self_teacher is not None:
        return teacher.self_teacher.name
    if teacher.route is not None:
        return "ladder"
    if teacher.assistants:
        return "assistant"
    if teacher.ensemble is not None:
        return "ensemble"
    return "pruned_mix" if teacher.pruned is not None else "teacher"


def training_of(spec: ModelSpec) -> TeacherTraining:
    """Return how a teacher is trained.

    Raises:
        ValueError: It is not trained by the recipe.
    """
    if spec.train is None:
        raise ValueError(f"{source_text(spec)} is not trained by this recipe")
    return spec.train
