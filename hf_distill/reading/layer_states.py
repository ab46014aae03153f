"""What a pair of mapped layers says about a batch, with padding out of sight.

Shape legend: B examples, T positions, N attended positions, S student width, H teacher width, A attention heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hf_distill.reading.model_reading import Reading


class Captured(NamedTuple):
    """The readings of student and teacher from which each term takes the layers it compares."""

    student: Reading
    teacher: Reading
    mask: Tensor | None


@dataclass(frozen=True)
class LayerStates:
    """Hidden states of a student layer and the teacher layer it learns from, in one forward.

    Padding is 0 on both sides and gets no gradient, whatever the models wrote there; no gradient reaches the teacher.

    Shapes: `student_BTS` (B, T, S), `teacher_BTH` (B, T, H), `mask_BT` (B, T), True where a position is attended.
    """

    student_BTS: Tensor
    teacher_BTH: Tensor
    mask_BT: Tensor

    @classmethod
    def of(
        cls,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor | None,
        *,
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> LayerStates:
        """Hide the padding of two layers' outputs.

        Args:
            student: The student layer's output.
            teacher: The teacher layer's output.
            mask: Attended positions; None where all are.
            project: Maps the student's states to another width.

        Shapes: (B, T, S) and (B, T, H) with mask (B, T); (B, S) and (B, H) count as one position.

        Raises:
            ValueError: The shapes do not belong to one batch.
        """
        if student.dim() == teacher.dim() == 2:
            student, teacher, mask = student.unsqueeze(1), teacher.unsqueeze(1), None
        expected = student.shape[:2] if mask is None else mask.shape
        if student.dim() != 3 or teacher.dim() != 3 or not student.shape[:2] == teacher.shape[:2] == expected:
            raise ValueError(
                f"hidden states have shapes {tuple(student.shape)} (student) and {tuple(teacher.shape)} (teacher) and "
                f"the attention mask {None if mask is None else tuple(mask.shape)}; expected (B, T, width) and (B, T) "
                "of the same positions. Use objectives that compare logits only"
            )
        if mask is None:
            attended = torch.ones(student.shape[:2], dtype=torch.bool, device=student.device)
        else:
            attended = mask.bool()
        padding = ~attended.unsqueeze(-1)
        # Before the projector too: in its weights' gradient 0 times NaN would be NaN.
        student = student.masked_fill(padding, 0.0)
        if project is not None:
            student = project(student).masked_fill(padding, 0.0)
        return cls(student, teacher.detach().masked_fill(padding, 0.0), attended)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return the states of attended positions. Shapes: (N, S), (N, H)."""
        return self.student_BTS[self.mask_BT], self.teacher_BTH[self.mask_BT]

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Return each example's mean state over its attended positions. Shapes: (B, S), (B, H)."""
        counts_B1 = self.mask_BT.sum(1, keepdim=True).clamp(min=1)
        return self.student_BTS.sum(1) / counts_B1, self.teacher_BTH.sum(1) / counts_B1


class AttentionRows(NamedTuple):
    """Attention probabilities of a student and a teacher layer, one row an attended position (the query).

    Shapes: `student_NAT` (N, As, T), `teacher_NAT` (N, At, T): over the keys, 0 where a key is padding.
    """

    student_NAT: Tensor
    teacher_NAT: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor, mask: Tensor | None) -> AttentionRows:
        """Hide the padding of two layers' attentions; no gradient reaches the teacher.

        Shapes: (B, As, T, T), (B, At, T, T) and mask (B, T) or None.

        Raises:
            ValueError: The shapes do not belong to one batch.
        """
        fits = student.dim() == teacher.dim() == 4 and student.shape[::2] == teacher.shape[::2]
        if not fits or (mask is not None and mask.shape != student.shape[::2]):
            raise ValueError(
                f"attentions have shapes {tuple(student.shape)} (student) and {tuple(teacher.shape)} (teacher), the "
                f"mask {None if mask is None else tuple(mask.shape)}; expected (B, heads, T, T) and (B, T)"
            )
        rows = [attention.transpose(1, 2) for attention in (student, teacher.detach())]
        if mask is None:
            return cls(*(row.flatten(0, 1) for row in rows))
        attended = mask.bool()
        padding = ~attended[:, None, None]
        return cls(*(row.masked_fill(padding, 0.0)[attended] for row in rows))
