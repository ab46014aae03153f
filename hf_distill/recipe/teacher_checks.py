"""Which `teacher:` blocks make sense: who can stand beside whom, with messages that say what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hf_distill.recipe.blocks import check_free, check_model, check_name, check_seed, check_training, require
from hf_distill.recipe.teacher_spec import AssistantTraining, ModelSpec, SelfTeacherSpec, TeacherSpec, TeacherTraining
from hf_distill.teachers.selection import read_selection
from hf_distill.wording import given

_NOT_SHARDED = {
    "quantization": "quantized weights are small and stay whole on the device",
    "offload": "its pieces lie on the CPU where the launch configuration keeps the student's there "
    "(fsdp2_offload.yaml, zero3_offload.yaml)",
    "compile": "a compiled body leaves out the hooks that put split layers together",
}
_IN_PLACE_OF = ("source", "train", "ensemble", "self_teacher")


def check_teacher(teacher: TeacherSpec) -> None:
    """Refuse a teacher that cannot be made.

    Raises:
        ValueError: The message begins with the key path and says what to do.
    """
    if teacher.source is not None and teacher.train is not None:
        raise ValueError("teacher: both `source` and `train` are given; keep one.")
    kinds = [key for key in _IN_PLACE_OF if vars(teacher)[key] is not None]
    if len(kinds) > 1:
        raise ValueError(f"teacher.{kinds[-1]}: stands in the place of `{kinds[0]}`, which is given too; keep one.")
    if teacher.cached is not None:
        _check_cached(teacher)
    if teacher.cached and not teacher.can_run:
        return
    if not kinds:
        raise ValueError(
            "teacher: give `source` (a repository or folder) or `train` (to train it first), or an `ensemble` or a "
            "`self_teacher` in their place."
        )
    if not teacher.is_one_model:
        _check_nothing_of_one_model(teacher, kinds[0])
    if teacher.ensemble is not None:
        _check_ensemble(teacher)
    elif teacher.self_teacher is not None:
        _check_self(teacher, teacher.self_teacher)
    else:
        _check_model_spec(teacher, "teacher")
        _check_pruned(teacher)
    for index, assistant in enumerate(teacher.assistants):
        _check_assistant(assistant, f"teacher.assistants[{index}]", routed=teacher.route is not None)
    _check_route(teacher)


def _check_cached(teacher: TeacherSpec) -> None:
    if isinstance(teacher.cached, str):
        require(teacher.cached.strip() != "", "teacher.cached: empty; give a folder, a data set org/name, or true.")
    require(
        not teacher.cached or teacher.self_teacher is None,
        "teacher.cached: a student that teaches itself says something else at every step; leave `cached` out.",
    )
    require(
        not teacher.cached or teacher.can_run or not (teacher.assistants or teacher.pruned or teacher.route),
        "teacher.cached: without `source` or `train` there is nothing that `assistants`, `pruned` or `route` could "
        "change; leave them out.",
    )


def _check_model_spec(spec: ModelSpec, path: str) -> None:
    if spec.quantization is not None and spec.offload:
        raise ValueError(f"{path}.offload: quantized weights are small and stay on the device; leave one of both out.")
    for key, why in _NOT_SHARDED.items():
        require(not (spec.sharded and vars(spec)[key]), f"{path}.sharded: {why}; leave one of both out.")
    if spec.train is not None:
        _check_trained(spec.train, f"{path}.train")
        return
    if spec.max_cached_gb is not None and not spec.max_cached_gb > 0:
        raise ValueError(f"{path}.max_cached_gb: expected a number above 0, or null, got {spec.max_cached_gb}.")
    if isinstance(spec.source, Mapping):
        read_selection(spec.source, path=f"{path}.source")
        return
    sources = [spec.source] if isinstance(spec.source, str) else spec.source or []
    if not sources or not all(source.strip() for source in sources):
        raise ValueError(f"{path}.source: expected a repository or folder, or a list of them, got {given(sources)}.")


def _check_pruned(teacher: TeacherSpec) -> None:
    placed = [key for key in ("quantization", "offload", "sharded") if vars(teacher)[key]]
    require(
        teacher.pruned is None or not placed,
        f"teacher.{'/'.join(placed)}: a second copy of the teacher is pruned in memory, number by number; leave "
        "`pruned` out, or this.",
    )


def _check_nothing_of_one_model(teacher: TeacherSpec, kind: str) -> None:
    where = "put it into the members" if kind == "ensemble" else "leave it out"
    for one in dataclasses.fields(ModelSpec):
        if vars(teacher)[one.name] != one.default:
            raise ValueError(f"teacher.{one.name}: belongs to a `source` or `train`; with `{kind}`, {where}.")


def _check_trained(train: TeacherTraining, path: str) -> None:
    check_model(train.model, f"{path}.model")
    check_training(train.training, f"{path}.training")
    check_seed(train.seed, f"{path}.seed")


def _check_ensemble(teacher: TeacherSpec) -> None:
    assert teacher.ensemble is not None
    members, weights = teacher.ensemble.members, teacher.ensemble.weights
    require(
        len(members) > 1, "teacher.ensemble.members: expected two teachers or more; one goes by `source` or `train`."
    )
    if weights is not None and len(weights) != len(members):
        raise ValueError(f"teacher.ensemble.weights: expected one a member, {len(members)}, got {len(weights)}.")
    require(
        teacher.pruned is None,
        "teacher.pruned: goes with one teacher, by `source` or `train`, and not with an `ensemble`; leave it out.",
    )
    for index, member in enumerate(members):
        path = f"teacher.ensemble.members[{index}]"
        if (member.source is None) == (member.train is None):
            raise ValueError(f"{path}: give either `source` (a repository or folder) or `train` (to train it first).")
        _check_model_spec(member, path)
        if isinstance(member.source, Mapping) and "near_transition" in member.source:
            raise ValueError(f"{path}.source.near_transition: a member answers with its final revision; leave it out.")


def _check_self(teacher: TeacherSpec, own: SelfTeacherSpec) -> None:
    for key in ("pruned", "assistants", "route"):
        require(
            not vars(teacher)[key],
            f"teacher.{key}: needs a teacher by `source` or `train`; with `self_teacher` there is the student only.",
        )
    for key in ("decay", "warmup"):
        require(
            own.name == "ema" or vars(own)[key] is None,
            f"teacher.self_teacher.{key}: belongs to `ema`, and not to {own.name!r}; leave it out.",
        )


def _check_assistant(assistant: AssistantTraining, path: str, *, routed: bool) -> None:
    _check_trained(assistant, path)
    check_name(assistant.curriculum, f"{path}.curriculum")
    check_free(assistant.curriculum, f"{path}.curriculum")
    require(
        "training" not in assistant.curriculum,
        f"{path}.curriculum.training: the assistant's training arguments go into {path}.training.",
    )
    if assistant.curriculum["name"] == "labels" and not routed:
        raise ValueError(
            f"{path}.curriculum: an assistant that learns from labels hands on nothing of its teacher; choose another "
            "curriculum, or give `route` so that the students hear the teacher too."
        )


def _check_route(teacher: TeacherSpec) -> None:
    if teacher.route is None:
        return
    require(
        bool(teacher.assistants),
        "teacher.route: there is nobody to choose among but the teacher; give `assistants`, or leave it out.",
    )
    try:
        teacher.route.schedule(len(teacher.assistants) + 1)
    except ValueError as error:
        raise ValueError(f"teacher.route.{error}") from error
