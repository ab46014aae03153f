"""KL divergence between attention probabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import kl_divergence
from hf_distill.objectives.features import FeatureObjective
from hf_distill.reading.layer_states import AttentionRows
from hf_distill.reading.signals import Signals, at_least_float32

DROPOUT_NAMES = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "attn_dropout")
"""What configurations call the dropout of attention probabilities."""


@OBJECTIVES.register("attention_kl")
@dataclass(frozen=True, kw_only=True)
class AttentionKL(FeatureObjective):
    """(1/A) Σ_a KL(teacher's attention of head a ‖ student's), over the keys of each attended position, in nats.

    With `over_heads: each` head a learns from head a, and both layers need as many; with `over_heads: mean` the mean
    attention over the heads is compared, whatever their numbers. Both models must run with
    `attn_implementation="eager"`, the only one that gives attentions (a teacher loaded by revisions is set to it),
    and the student without attention dropout, which transformers applies to what it gives.

    Shapes: attentions (N, heads, T) -> (N,), one value an attended token; mean over pairs of layers.
    Raises: ValueError where head counts differ with `over_heads: each`, dropout is on or attention is not eager.
    Source: MiniLM's attention transfer (arXiv 2002.10957), mean over heads and positions. Deviation: the student's
    probability counts as at least the smallest normal number of its precision, where the value would be infinite;
    the papers average over each sequence first, here every token counts alike.
    """

    papers: ClassVar[tuple[str, ...]] = ("2002.10957",)
    needs: ClassVar[frozenset[str]] = frozenset({"student.attentions", "teacher.attentions"})

    over_heads: Literal["each", "mean"] = field(
        default="each", metadata={"help": "compare head by head, or their mean"}
    )

    def check_models(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        """Refuse models that give no attentions, or other ones than their layers use."""
        counts = [_attention_heads(config) for config in (student, teacher)]
        given = student._attn_implementation
        if given != "eager":
            raise ValueError(
                f"attention_kl reads attention probabilities, which the student's {given!r} attention does not give; "
                'load it with attn_implementation="eager"'
            )
        settings = student.get_text_config().to_dict()
        dropout = {name: settings[name] for name in DROPOUT_NAMES if settings.get(name)}
        if dropout:
            raise ValueError(
                f"attention_kl would compare attentions after the student's dropout {dropout}, which are no "
                "probabilities; set it to 0"
            )
        self._check_heads(*counts)

    def _check_heads(self, student: int, teacher: int) -> None:
        if self.over_heads == "each" and student != teacher:
            raise ValueError(
                f"attention_kl compares head by head, but the student has {student} heads and the teacher {teacher}; "
                "set `over_heads: mean`, or use relation_kl, which splits both alike"
            )

    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return the divergence of each attended position's attention."""
        return [self._compare(rows) for rows in signals.attention_rows()]

    def _compare(self, rows: AttentionRows) -> Tensor:
        student_NAT, teacher_NAT = rows
        self._check_heads(student_NAT.shape[1], teacher_NAT.shape[1])
        floor = torch.finfo(student_NAT.dtype).tiny
        student_NAT, teacher_NAT = (at_least_float32(side) for side in rows)
        if self.over_heads == "mean":
            student_NAT, teacher_NAT = student_NAT.mean(1, keepdim=True), teacher_NAT.mean(1, keepdim=True)
        return kl_divergence(teacher_NAT.log(), student_NAT.clamp(min=floor).log()).mean(1)

    def formula(self) -> str:
        """Return the name with the layers."""
        return self._text("KL(attention" if self.over_heads == "each" else "KL(mean attention")


def _attention_heads(config: PreTrainedConfig) -> int:
    try:
        return int(config.get_text_config().num_attention_heads)
    except (AttributeError, TypeError):  # none, or one for each stage of a Swin
        raise ValueError(
            f"attention_kl reads attentions over all positions, which {type(config).__name__} does not have; compare "
            "its layers by hidden_mse, relation_kl, similarity_preserving or pkt"
        ) from None
