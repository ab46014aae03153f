"""One call of the teacher for many micro-batches: those of an accumulation window, put together and split again.

Shape legend: B examples and T positions of a micro-batch, R its rows that count.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from hf_distill.kernels import HeadRows, LogitRows
from hf_distill.loss.loss_log import LossLog
from hf_distill.reading.model_reading import Wanted
from hf_distill.reading.signals import IGNORE_INDEX, Head, select_rows
from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.sharding import SHARDING

logger = logging.getLogger(__name__)

PADDED_WITH = {"attention_mask": 0, "token_type_ids": 0, "position_ids": 0, "labels": IGNORE_INDEX}
"""What stands behind the shorter micro-batches, where it is not the padding token."""

TOKENS = ("input_ids", "decoder_input_ids")

SAYS_WHICH_ROWS_COUNT = frozenset({"attention_mask", "labels", "start_positions", "end_positions"})

AS_WIDE_AS_THE_TEXT: frozenset[str] = frozenset({"question_answering"})
"""Heads with an output for each position: padding would make them wider."""


class TeacherWindow:
    """What the teacher says about the micro-batches of an optimizer step, from as few forwards as possible.

    The rows that count are kept, in front of the teacher's head where that can be split off. They are those that the
    teacher gives micro-batch by micro-batch, but for rounding: its dropout is off, and padding is masked. What cannot
    be put together is answered micro-batch by micro-batch; why, is said once.

    Args:
        head: The kind of head.
        teacher: Who answers.
        most_examples: Of one forward; None: all of the window. A micro-batch is never split.
        accelerator: Of the training.
        positioned: Adds to a micro-batch what models are given beside it (position ids).
    """

    def __init__(
        self,
        *,
        head: Head,
        teacher: TeacherSource,
        most_examples: int | None,
        accelerator: Accelerator,
        positioned: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> None:
        self.head = head
        self.teacher = teacher
        self.most_examples = most_examples
        self.accelerator = accelerator
        self._positioned = positioned
        self._batches: list[dict[str, Any]] = []
        self._answers: list[HeadRows | LogitRows | None] = []
        self._place = -1
        self._said: set[str] = set()

    def open(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Begin a window; its micro-batches will be asked about in their order."""
        self._batches = [dict(batch) for batch in batches]
        self._answers, self._place = [], -1

    def turn(self) -> None:
        """Go on to the next micro-batch."""
        self._place += 1

    def rows(self, wanted: Wanted, *, on_view: bool, log: LossLog) -> HeadRows | LogitRows | None:
        """Return the current micro-batch's rows that count; None where the teacher has to be asked about it alone.

        The first question of a window is answered for all of it, by the revision that is current then.

        Args:
            wanted: What the step looks at beside logits.
            on_view: Whether an augmented view is asked about.
            log: Gets the teacher's time.
        """
        problem = self._problem(wanted, on_view)
        if problem is not None:
            self._say(problem)
            return None
        if not self._answers and self._place >= 0:
            self._answer(log)
        return self._answers[self._place] if 0 <= self._place < len(self._answers) else None

    def logits(self, rows: HeadRows | LogitRows) -> Tensor:
        """Return the logits of rows that were kept, as a forward of their own would give them. Shapes: (R, V)."""
        with torch.no_grad(), self.accelerator.autocast():
            return rows.logits()

    def _problem(self, wanted: Wanted, on_view: bool) -> str | None:
        engine = self.accelerator.distributed_type
        if "teacher.live" not in self.teacher.provides:
            return f"{type(self.teacher).__name__} runs no model whose calls could be saved"
        if engine in SHARDING:
            return f"under {engine.value} every rank has to call it equally often, whatever fits together there"
        if on_view:
            return "a view of a micro-batch is drawn when its turn comes"
        if wanted.anything:
            return "the objectives compare layers, whose states would have to be kept for the whole window"
        return None

    def _say(self, problem: str) -> None:
        if problem not in self._said:
            self._said.add(problem)
            logger.warning("teacher_window: the teacher answers each micro-batch by itself: %s", problem)

    def _answer(self, log: LossLog) -> None:
        for group in grouped(self._batches, self.most_examples):
            batches = [self._prepared(batch) for batch in group]
            try:
                joined = self._joined(batches)
            except ValueError as error:
                self._say(str(error))
                self._answers += [None] * len(group)
                continue
            counts = torch.stack([_count(self.head, batch) for batch in batches]).tolist()
            with log.teacher_timer(self.accelerator.device):
                answer = self.teacher.head_rows(joined, select_rows(self.head, joined))
            self._answers += split(answer, counts)

    def _prepared(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = self.accelerator.device
        moved = {
            key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        read = self.teacher.forward_arguments | SAYS_WHICH_ROWS_COUNT
        return {key: value for key, value in self._positioned(moved).items() if key in read and value is not None}

    def _joined(self, batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.head in ("classification", "regression") and "input_ids" in batches[0] and self._pad is None:
            raise ValueError("its configuration has no pad_token_id, so it finds the ends of texts of one length only")
        return join(batches, pad=self._pad or 0, may_pad=self.head not in AS_WIDE_AS_THE_TEXT)

    @cached_property
    def _pad(self) -> int | None:
        # Models that read no text have none.
        return self.teacher.config.get_text_config().to_dict().get("pad_token_id")


def grouped(batches: Sequence[dict[str, Any]], most_examples: int | None) -> list[list[dict[str, Any]]]:
    """Return neighbouring micro-batches in groups of at most so many examples, or of one micro-batch.

    Args:
        batches: The micro-batches.
        most_examples: Of a group; None: all are one group.
    """
    groups: list[list[dict[str, Any]]] = []
    examples = 0
    for batch in batches:
        size = _examples(batch)
        if not groups or (most_examples is not None and examples + size > most_examples):
            groups.append([])
            examples = 0
        groups[-1].append(batch)
        examples += size
    return groups


def join(batches: Sequence[Mapping[str, Any]], *, pad: int, may_pad: bool = True) -> dict[str, Any]:
    """Put micro-batches together, in their order; shorter ones are padded on the right, behind an attention mask of 0.

    Args:
        batches: What is read of each.
        pad: Token id of padding.
        may_pad: Whether lengths may differ.

    Shapes: (B, T) of each -> (Σ B, max T); other inputs must be equal in all but their first dimension.

    Raises:
        ValueError: They differ in a way that padding does not bridge, or an input is not one row an example.
    """
    for batch in batches:
        _check_rows(batch)
    given = [dict(batch) for batch in batches]
    if len({tuple(batch["input_ids"].shape[1:]) for batch in given if "input_ids" in batch}) > 1:
        if not may_pad:
            raise ValueError("its head has an output for each position, and the micro-batches are of several lengths")
        if any("attention_mask" not in batch for batch in given):
            if any("position_ids" in batch for batch in given):
                raise ValueError("flattened micro-batches (position_ids without an attention_mask) cannot be padded")
            given = [{**batch, "attention_mask": torch.ones_like(batch["input_ids"])} for batch in given]
    keys = set(given[0])
    if any(set(batch) != keys for batch in given):
        raise ValueError("the micro-batches of a window have different inputs")
    return {key: _join_one(key, [batch[key] for batch in given], pad=pad) for key in sorted(keys)}


def split(answer: HeadRows | LogitRows, counts: Sequence[int]) -> list[HeadRows | LogitRows]:
    """Return an answer's rows in parts of `counts` rows each, without copying them."""
    parts: list[HeadRows | LogitRows] = []
    start = 0
    for count in counts:
        parts.append(_part(answer, start, count))
        start += count
    return parts


def _part(answer: HeadRows | LogitRows, offset: int, count: int) -> HeadRows | LogitRows:
    if isinstance(answer, HeadRows):
        return dataclasses.replace(answer, hidden_RH=answer.hidden_RH[offset : offset + count])
    return LogitRows(
        rows=count, width=answer.width, read=lambda start, stop: answer.read(offset + start, offset + stop)
    )


def _examples(batch: Mapping[str, Any]) -> int:
    return next(len(value) for value in batch.values() if isinstance(value, Tensor) and value.dim())


def _count(head: Head, batch: Mapping[str, Any]) -> Tensor:
    mask = select_rows(head, batch).mask
    if mask is not None:
        return mask.sum()
    first = next(value for value in batch.values() if isinstance(value, Tensor))
    return torch.tensor(len(first), device=first.device)


def _check_rows(batch: Mapping[str, Any]) -> None:
    first = _examples(batch)
    for key, value in batch.items():
        if not isinstance(value, Tensor) or not value.dim() or len(value) != first:
            raise ValueError(f"{key} is not one row an example")


def _join_one(key: str, values: list[Tensor], *, pad: int) -> Tensor:
    if len({tuple(value.shape[1:]) for value in values}) == 1:
        return torch.cat(values)
    fill = pad if key in TOKENS else PADDED_WITH.get(key, PADDED_WITH.get(key.removeprefix("decoder_")))
    if fill is None or any(value.dim() != 2 for value in values):
        shapes = sorted({tuple(value.shape[1:]) for value in values})
        raise ValueError(f"{key} has other shapes in other micro-batches: {', '.join(map(str, shapes))}")
    longest = max(value.shape[1] for value in values)
    return torch.cat([F.pad(value, (0, longest - value.shape[1]), value=fill) for value in values])
