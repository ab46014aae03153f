"""Label maps: which class of a teacher is which of the student's, by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.reading.signals import Head

UNNAMED = "LABEL_"
"""How transformers names classes that nobody has named: LABEL_0, LABEL_1, ..."""

NAMED_HEADS: frozenset[str] = frozenset({"classification", "token_classification"})
"""Heads whose outputs are classes with names."""


def label_order(head: Head, student: PreTrainedConfig, teacher: PreTrainedConfig) -> tuple[int, ...] | None:
    """Return for each of the student's classes the number that the teacher gives it; None where all agree.

    Classes are compared by name, whatever case and separators (`NOT_ENTAILMENT`, `not entailment`). Where one side
    names none of its classes they are taken by their numbers.

    Args:
        head: Of both; heads without classes have no order.
        student: Its configuration.
        teacher: Its configuration.

    Raises:
        ValueError: Different numbers of classes, or names that do not match.
    """
    if head not in NAMED_HEADS and head != "regression":
        return None
    if student.num_labels != teacher.num_labels:
        raise ValueError(
            f"the student has {student.num_labels} labels and the teacher {teacher.num_labels}; distillation compares "
            "them one by one. Make the student with the teacher's num_labels, id2label and label2id"
        )
    if head == "regression":
        return None
    ours, theirs = label_names(student), label_names(teacher)
    try:
        return order_of(ours, theirs)
    except ValueError as error:
        raise ValueError(
            f"student and teacher do not have the same labels: {ours} against {theirs} ({error}). Take a teacher of "
            "these labels, or make the student with the teacher's id2label and label2id"
        ) from error


def label_names(config: PreTrainedConfig) -> list[str]:
    """Return the names of a configuration's classes in the order of their numbers."""
    named = {int(number): str(name) for number, name in config.id2label.items()}
    return [named.get(number, f"{UNNAMED}{number}") for number in range(config.num_labels)]


def order_of(ours: Sequence[str], theirs: Sequence[str]) -> tuple[int, ...] | None:
    """Return for each of our classes its place among theirs; None where the places are the same, or one side unnamed.

    Raises:
        ValueError: Different numbers, a name that only one side has, or one that stands twice.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} classes against {len(theirs)}")
    if any(all(name.startswith(UNNAMED) for name in names) for names in (ours, theirs)):
        return None
    left, right = ([_plain(name) for name in names] for names in (ours, theirs))
    twice = [name for names in (left, right) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice")
    alone = [name for name, plain in zip(ours, left, strict=True) if plain not in right]
    if alone:
        raise ValueError(f"{', '.join(map(repr, alone))} only on one side")
    order = tuple(right.index(name) for name in left)
    return None if order == tuple(range(len(order))) else order


def in_order(logits: Tensor, order: Sequence[int] | None) -> Tensor:
    """Return a teacher's logits with its classes in the student's order.

    Shapes: (..., C) -> (..., C).
    """
    return logits if order is None else logits[..., torch.tensor(order, device=logits.device)]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
