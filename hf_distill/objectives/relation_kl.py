"""KL divergence between self-relations of positions, as in MiniLM and MiniLMv2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import kl_divergence
from hf_distill.objectives.features import FeatureObjective
from hf_distill.reading.layer_states import LayerStates
from hf_distill.reading.layers import hidden_width
from hf_distill.reading.signals import Signals, at_least_float32


@OBJECTIVES.register("relation_kl")
@dataclass(frozen=True, kw_only=True)
class RelationKL(FeatureObjective):
    """(1/A) Σ_a KL(R_T[a, i] ‖ R_S[a, i]) with R[a, i] = softmax_j(h[a, i]·h[a, j] / √d), in nats.

    A position's relation is a distribution over the attended positions j of its own example, itself included. The
    states h are split into A relation heads of d = width / A each, so that student and teacher may differ in width
    and in attention heads: no projector, no choice of scale.

    Shapes: hidden states (B, T, S) and (B, T, H) -> (N,), one value an attended token; mean over pairs of layers.
    Raises: ValueError where a width is not divisible by `relation_heads`.
    Source: MiniLM's value relation (arXiv 2002.10957), MiniLMv2's relation heads (arXiv 2012.15828). Our
    instantiation: the relation is of the layers' outputs, because queries, keys and values have no common name among
    architectures. Outputs are longer vectors than values: where a relation is all on the diagonal, use more heads or
    a shallower layer. Decoders relate to later positions too, as only what is compared knows them and nothing is
    predicted from them. The papers average over each sequence first; here every token counts alike.
    """

    papers: ClassVar[tuple[str, ...]] = ("2012.15828",)

    relation_heads: int = field(default=1, metadata={"help": "A: parts into which both models' states are split"})

    def __post_init__(self) -> None:
        if self.relation_heads < 1:
            raise ValueError(f"relation_kl: `relation_heads` must be 1 or more, got {self.relation_heads}")

    def check_layers(
        self, student: PreTrainedConfig, teacher: PreTrainedConfig, pairs: Sequence[tuple[int, int]]
    ) -> None:
        """Refuse widths that cannot be split into the relation heads."""
        for ours, theirs in pairs:
            self._check_width(hidden_width(student, ours), "student")
            self._check_width(hidden_width(teacher, theirs), "teacher")

    def _check_width(self, width: int, who: str) -> None:
        if width % self.relation_heads:
            raise ValueError(
                f"relation_kl: the {who}'s width {width} cannot be split into relation_heads = {self.relation_heads}; "
                "choose a number that divides both widths"
            )

    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return the divergence of each attended position's relations."""
        return [self._compare(states) for states in signals.layer_states()]

    def _compare(self, states: LayerStates) -> Tensor:
        teacher_BATT = self._log_relations(states.teacher_BTH, states.mask_BT)
        student_BATT = self._log_relations(states.student_BTS, states.mask_BT)
        return kl_divergence(teacher_BATT, student_BATT).mean(1)[states.mask_BT]

    def _log_relations(self, states_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        self._check_width(states_BTH.shape[-1], "model")
        heads_BATD = at_least_float32(states_BTH).unflatten(-1, (self.relation_heads, -1)).transpose(1, 2)
        scores_BATT = heads_BATD @ heads_BATD.mT / heads_BATD.shape[-1] ** 0.5
        # The lowest number instead of -inf: an example of padding alone would be NaN.
        lowest = torch.finfo(scores_BATT.dtype).min
        return F.log_softmax(scores_BATT.masked_fill(~mask_BT[:, None, None], lowest), dim=-1)

    def formula(self) -> str:
        """Return the name with the heads and the layers."""
        heads = f", {self.relation_heads} heads" if self.relation_heads > 1 else ""
        return self._text(f"KL(relations{heads}")
