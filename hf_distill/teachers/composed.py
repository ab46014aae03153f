"""Teachers that are made of other teachers: an ensemble, a ladder, a pruned mix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.models.compatibility import shared_width
from hf_distill.models.label_maps import label_names, label_order
from hf_distill.reading.signals import TOKEN_HEADS, Head
from hf_distill.teachers.as_teacher import as_teacher
from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.live import LiveTeacher
from hf_distill.teachers.revisions import Revision

TeacherLike: TypeAlias = TeacherSource | PreTrainedModel | str | Path | list[str]
"""What a member may be: a source, a loaded model, or what `TeacherSequence` takes."""


class ComposedTeacher(TeacherSource):
    """A teacher whose answer is made of its members' logits: there are no hidden states that would go with it.

    It has one revision, which lists those of its members; each member answers with its final one.

    Args:
        members: The teachers.
        name: Of the revision.
        text: What the members are made to, for people.
        rule: The settings of that; they are part of the pin.

    Raises:
        ValueError: No members, or one that cannot be one.
    """

    provides = frozenset({"teacher.logits", "teacher.live"})

    def __init__(self, members: Sequence[TeacherLike], *, name: str, text: str, rule: Mapping[str, Any]) -> None:
        sources = [as_teacher(member) for member in members]
        self.members = [source for source in sources if source is not None]
        if not self.members or len(self.members) != len(sources):
            raise ValueError(f"{type(self).__name__} is made of teachers; give it models, folders, ids or sources")
        for member in self.members:
            if member.calibration_examples:
                raise ValueError(
                    f"a {type(member).__name__} looks at training data first, so it cannot be part of a "
                    f"{type(self).__name__}; use it as the teacher itself"
                )
        self.rule = dict(rule)
        self.revisions = [composed(name, text, rule, [member.revisions[-1] for member in self.members])]
        self._width: int | None = None
        self._narrowest = self.members[0]

    def attach_student(self, student: torch.nn.Module) -> None:
        """Compare the student with members that are in memory.

        Raises:
            ValueError: One of them is the student.
        """
        for member in self.members:
            if isinstance(member, (LiveTeacher, ComposedTeacher)):
                member.attach_student(student)

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Attach every member, and find the classes or token ids that all of them have.

        Raises:
            ValueError: A member has another head, other labels or another tokenizer, or revisions still to be chosen.
        """
        for member in self.members:
            if member.near_transition is not None and self.near_transition is None:
                raise ValueError(
                    f"near_transition chooses revisions to learn from one by one, and a {type(self).__name__} has one"
                )
            member.attach(head=head, accelerator=accelerator)
        found = [_width_of(head, member, self.members[0], place) for place, member in enumerate(self.members, 1)]
        widths = [width for width in found if width is not None]
        if widths:
            self._width = min(widths)
            self._narrowest = self.members[widths.index(self._width)]

    @property
    def config(self) -> PreTrainedConfig:
        """Configuration of the member with the narrowest head, which is as wide as what is shared."""
        return self._narrowest.config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The first tokenizer that a member has; they are all one."""
        return next((member.tokenizer for member in self.members if member.tokenizer is not None), None)

    @property
    def model(self) -> torch.nn.Module:
        """The members' models, to count and to look at; they are called one by one."""
        return torch.nn.ModuleList([member.model for member in self.members])

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """The names that any member's forward accepts."""
        return frozenset().union(*(member.forward_arguments for member in self.members))

    def enter(self, index: int) -> float:
        """Make every member's final revision the one that answers.

        Raises:
            ValueError: Another revision than 0 is asked for.
        """
        if index != 0:
            raise ValueError(
                f"a {type(self).__name__} has one revision, number 0; revision {index} was asked for. Curricula over "
                "several revisions learn from one teacher's own checkpoints"
            )
        return sum(member.enter(len(member.revisions) - 1) for member in self.members)

    def prepare(self, index: int) -> None:
        """Wait until every member's final revision is at hand."""
        for member in self.members:
            member.prepare(len(member.revisions) - 1)

    def need(self, indexes: Collection[int]) -> None:
        """Keep the final revision of every member."""
        for member in self.members:
            member.need([len(member.revisions) - 1])

    def close(self) -> None:
        """Close every member."""
        for member in self.members:
            member.close()

    def hidden_states(self, inputs: Mapping[str, Any], layers: Sequence[int]) -> dict[int, Tensor]:
        """Refuse: it gives logits only."""
        self._logits_only("hidden states")

    def read(self, inputs: Mapping[str, Any], *, layers: tuple[int, ...], attentions: bool) -> NoReturn:
        """Refuse: it gives logits only."""
        self._logits_only("hidden states and attentions")

    def give_attentions(self) -> None:
        """Refuse: it gives logits only."""
        self._logits_only("attentions")

    def _logits_only(self, what: str) -> NoReturn:
        raise ValueError(
            f"a {type(self).__name__} gives logits only, and no {what}: its members' layers are not each other's. Use "
            "objectives that compare logits, or one teacher"
        )

    def shared(self, logits: Tensor) -> Tensor:
        """Return a member's logits of the classes or token ids that all members have.

        Shapes: (..., V) -> (..., W).
        """
        return logits[..., : self._width]


def composed(name: str, text: str, rule: Mapping[str, Any], members: Sequence[Revision]) -> Revision:
    """Return the revision that others are made to; its commit is a hash of theirs and of the rule.

    Args:
        name: Of the revision.
        text: What it is, for people; stands as its source.
        rule: The settings by which it is made.
        members: The others.
    """
    step = members[0].step if len(members) == 1 else None
    pinned = {"name": name, "rule": dict(rule), "members": [member.commit for member in members]}
    commit = f"sha256:{hashlib.sha256(json.dumps(pinned, sort_keys=True).encode()).hexdigest()}"
    return Revision(name=name, step=step, source=text, revision=None, commit=commit, members=tuple(members))


def _width_of(head: Head, member: TeacherSource, first: TeacherSource, place: int) -> int | None:
    """Return the width of a member's head, after comparing it with the first member's; None where a text sets it."""
    try:
        shared = shared_width(
            head,
            first.config,
            member.config,
            student_tokenizer=first.tokenizer,
            teacher_tokenizer=member.tokenizer,
        )
    except ValueError as error:
        raise ValueError(
            f"teacher {place} does not go with teacher 1, which is called the student here: {error}"
        ) from error
    if label_order(head, first.config, member.config) is not None:
        raise ValueError(
            f"teacher {place} has the classes of teacher 1 in another order: {label_names(member.config)} against "
            f"{label_names(first.config)}; teachers that answer together need one order"
        )
    if head not in TOKEN_HEADS:
        return shared
    width = int(member.config.get_text_config().vocab_size)
    if shared is not None and shared < min(width, int(first.config.get_text_config().vocab_size)):
        raise ValueError(
            f"the tokenizer of teacher {place} and that of teacher 1 share {shared} ids only; teachers that answer "
            "together need one tokenizer"
        )
    return width
