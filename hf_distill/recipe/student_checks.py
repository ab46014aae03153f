"""Which `student:` blocks make sense, with messages that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hf_distill.recipe.blocks import MODEL_KEYS, check_free, check_model, require
from hf_distill.recipe.teacher_spec import TeacherSpec
from hf_distill.strict_dataclass import check_known_keys
from hf_distill.wording import given

if TYPE_CHECKING:
    from hf_distill.recipe.recipe import StudentSpec

FROM_TEACHER = "from_teacher"


def check_student(student: StudentSpec, teacher: TeacherSpec | None) -> None:
    """Refuse a student that cannot be made.

    Args:
        student: The recipe's student.
        teacher: Its teacher, which a student may be cut out of.

    Raises:
        ValueError: The message begins with the key path and says what to do.
    """
    check_known_keys(student.model, (*MODEL_KEYS, FROM_TEACHER), path="student.model")
    if FROM_TEACHER in student.model:
        _check_cut(student, teacher)
    else:
        check_model(student.model, "student.model")
    check_free(student.lora or {}, "student.lora")
    _check_adapter(student)


def _check_cut(student: StudentSpec, teacher: TeacherSpec | None) -> None:
    path = f"student.model.{FROM_TEACHER}"
    for stray in set(student.model) - {FROM_TEACHER}:
        raise ValueError(f"student.model.{stray}: does not go with `{FROM_TEACHER}`; remove one of the two.")
    value = student.model[FROM_TEACHER]
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{path}: expected what stays of the teacher, such as {{layers: spaced:3}}, got {given(value)}."
        )
    # Read once here, so that a typo is said with the recipe.
    _ = student.cut
    if teacher is None or not teacher.is_one_model:
        raise ValueError(
            f"{path}: there is no one teacher to cut a student out of; give `teacher.source` or `teacher.train`, or "
            "make the student first with `hf-distill student make` and give its folder as `pretrained`."
        )


def _check_adapter(student: StudentSpec) -> None:
    """Refuse what has no meaning without an adapter, or without weights that others can load."""
    new = "architecture" in student.model
    if student.quantization is not None:
        check_free(student.quantization, "student.quantization")
        require(
            student.lora is not None,
            "student.quantization: quantised weights are not trained; give `student.lora`, whose adapter is.",
        )
        require(
            not new,
            "student.quantization: a fresh model has no weights worth keeping small; give `pretrained` or "
            "`from_teacher`.",
        )
        of_bitsandbytes = student.quantization.get("load_in_4bit") or student.quantization.get("load_in_8bit")
        require(
            bool(of_bitsandbytes),
            "student.quantization: adapters are trained on what bitsandbytes quantises; give load_in_4bit: true or "
            "load_in_8bit: true.",
        )
    if student.export is None:
        return
    require(
        student.lora is not None,
        f"student.export: {student.export!r} is about an adapter; give `student.lora`, or leave it out.",
    )
    require(
        student.export == "merged" or not new,
        "student.export: an adapter alone is of no use without its base, and the weights of a fresh model are nowhere "
        "else; export it `merged`, or give `pretrained` or `from_teacher`.",
    )


def adapter_export(student: StudentSpec) -> str | None:
    """Return how a student's adapter is exported, `merged` or `adapter`; None for a student without one.

    Where nothing is said, it is merged, but for a quantised base: merged weights would not be the ones it was trained
    with.
    """
    if student.lora is None:
        return None
    return student.export or ("adapter" if student.quantization is not None else "merged")
