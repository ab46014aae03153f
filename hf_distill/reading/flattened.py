"""Padding-free batches: texts behind each other in one row, told apart by position ids that begin anew.

transformers' DataCollatorWithFlattening makes them. Its attention keeps such texts apart, with or without flash
attention, in decoders that build their mask from position ids; in other models they would see each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hf_distill.models.outputs import logits_of
from hf_distill.reading.signal_reader import SignalReader, Student
from hf_distill.views.reading import answering


class FlattenedBatches:
    """Makes sure, once in a run, that student and teacher keep the texts of a flattened batch apart.

    Args:
        reader: Knows the teacher.
    """

    def __init__(self, reader: SignalReader) -> None:
        self._reader = reader
        self._checked = False

    def check(self, student: Student, inputs: Mapping[str, Any]) -> None:
        """Look at the first micro-batch with two texts in a row; other batches are none of its business.

        Raises:
            ValueError: A model lets one text see the one before it.
        """
        # Once only: where texts begin has to be read from the device.
        if self._checked:
            return
        if not is_flattened(inputs):
            self._checked = True
            return
        starts = text_starts(inputs["position_ids"])
        if len(starts) < 2:
            return
        self._checked = True
        before, start = starts[-2:]
        together, alone = (columns(inputs, first, start + 1) for first in (before, start))
        if not self._reader.sharded:
            with answering(student.wrapper), torch.no_grad():
                found = [logits_of(student.forward(batch), None)[0, -1] for batch in (together, alone)]
            refuse_mixed("student", type(student.inner).__name__, *found)
        teacher = self._reader.teacher
        if teacher is not None and "teacher.embeddings" in teacher.provides:
            found = [teacher.logits(batch)[0, -1] for batch in (together, alone)]
            refuse_mixed("teacher", type(teacher.model).__name__, *found)


def is_flattened(inputs: Mapping[str, Any]) -> bool:
    """Whether a batch is one row with position ids and without an attention mask."""
    positions = inputs.get("position_ids")
    return isinstance(positions, Tensor) and len(positions) == 1 and inputs.get("attention_mask") is None


def text_starts(position_ids: Tensor) -> list[int]:
    """Return the columns where texts begin: those whose position does not follow the one before. Shapes: (1, T)."""
    begins = torch.ones_like(position_ids[0], dtype=torch.bool)
    begins[1:] = position_ids[0].diff() != 1
    return begins.nonzero().flatten().tolist()


def columns(inputs: Mapping[str, Any], first: int, end: int) -> dict[str, Any]:
    """Return some columns of a flattened batch."""
    width = inputs["position_ids"].shape[1]
    return {
        key: value[:, first:end]
        for key, value in inputs.items()
        if isinstance(value, Tensor) and value.dim() == 2 and value.shape[1] == width
    }


def refuse_mixed(who: str, name: str, together_V: Tensor, alone_V: Tensor) -> None:
    """Refuse a model that says something else of a text's first token behind another text than without it.

    Raises:
        ValueError: It does.
    """
    tolerance = 1e-4 if together_V.dtype in (torch.float32, torch.float64) else 0.02
    difference = (together_V.double() - alone_V.double()).norm() / alone_V.double().norm()
    if not difference <= tolerance:
        raise ValueError(
            f"the {who}, {name}, lets the texts of a flattened batch see each other (a text's first logits differ by "
            f"{float(difference):.2g} of their size); use a collator that pads, or a model whose attention goes by "
            "position ids"
        )
