"""A teacher mixed with a copy of itself that has its smallest weights zeroed (R2KD)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hf_distill.models.outputs import logits_of
from hf_distill.reading.signals import at_least_float32
from hf_distill.teachers.as_teacher import as_teacher
from hf_distill.teachers.base import freeze, unwrapped
from hf_distill.teachers.composed import ComposedTeacher, TeacherLike, composed
from hf_distill.teachers.revisions import Revision
from hf_distill.teachers.sequence import TeacherSequence
from hf_distill.teachers.swap import copy_in_place

PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)


class PrunedMixTeacher(ComposedTeacher):
    """z = w·z_full + (1 − w)·z_pruned, where the pruned copy lacks the smallest weights of every layer.

    From R2KD (Kim et al. 2023, arXiv 2311.13934): 10 % of each linear and convolution weight, those nearest to zero,
    without fine-tuning. Embeddings and the output head are left alone; where a model has no base model inside, its
    last linear layer counts as its head. There are two copies of the teacher in memory and two forwards a batch; the
    teacher's own weights are never touched. Its revisions are those of the teacher, each pruned anew.

    Args:
        teacher: A teacher source, a loaded model, or what `TeacherSequence` takes.
        rate: Share of each layer's weights that are zeroed, from 0 (then it is the teacher itself) to below 1.
        weight: w, the share of the full teacher.

    Raises:
        ValueError: A rate or weight out of range.
    """

    kind = "pruned_mix"

    def __init__(self, teacher: TeacherLike, *, rate: float = 0.1, weight: float = 0.7) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"rate: expected a share of the weights from 0 to below 1, got {rate:g}")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight: expected a share of the full teacher from 0 to 1, got {weight:g}")
        self.rate, self.weight = rate, weight
        source = as_teacher(teacher)
        super().__init__(
            [teacher if source is None else source],
            name="pruned_mix",
            text=f"{weight:g}·teacher + {1 - weight:g}·teacher without {100 * rate:g} % of its weights",
            rule={"rate": rate, "weight": weight},
        )
        self.near_transition = self.members[0].near_transition
        self._text = self.revisions[0].source
        self._pruned: nn.Module | None = None
        self._pruned_of: str | None = None
        self._list()

    def _list(self) -> None:
        self.revisions = [composed(one.name, self._text, self.rule, [one]) for one in self.members[0].revisions]

    def enter(self, index: int) -> float:
        """Make revision `index` the one that answers, and prune a copy of it; return the seconds that was waited.

        Raises:
            ValueError: The teacher is split over ranks.
        """
        stall = self.members[0].enter(index)
        commit = self.revisions[index].commit
        if self.rate and self.weight < 1 and commit != self._pruned_of:
            self._prune(what=str(self.revisions[index]))
            self._pruned_of = commit
        return stall

    def _prune(self, *, what: str) -> None:
        if self.members[0].is_split:
            raise ValueError(
                "a second copy of the teacher is pruned in memory, number by number, which no rank has of a sharded "
                "teacher; leave `sharded` out"
            )
        full = unwrapped(self.members[0].model)
        if self._pruned is None:
            self._pruned = copy.deepcopy(full)
            freeze(self._pruned)
        else:
            copy_in_place(dict(full.state_dict()), self._pruned, what=what)
        zero_smallest(prunable_weights(self._pruned), self.rate)

    def prepare(self, index: int) -> None:
        """Wait until revision `index` can be entered."""
        self.members[0].prepare(index)

    def need(self, indexes: Collection[int]) -> None:
        """Say which revisions are still to come."""
        self.members[0].need(indexes)

    def read_ahead(self, index: int) -> None:
        """Start reading revision `index` in the background."""
        self.members[0].read_ahead(index)

    def narrow(self, revisions: Sequence[Revision]) -> None:
        """Keep only these revisions, in their order.

        Raises:
            ValueError: The teacher is no sequence, or one of them is none of its own.
        """
        teacher = self.members[0]
        if not isinstance(teacher, TeacherSequence):
            raise ValueError(f"only a teacher sequence has revisions to choose among, not a {type(teacher).__name__}")
        teacher.narrow([revision.members[0] for revision in revisions])
        self.near_transition = None
        self._list()

    @property
    def model(self) -> nn.Module:
        """The full teacher."""
        return self.members[0].model

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the mixed logits, without gradient.

        Shapes: (B, classes) or (B, T, V).
        """
        full = self.members[0].logits(inputs)
        if self._pruned is None:
            return full
        pruned = logits_of(self._pruned(**self._accepted(inputs)), inputs.get("attention_mask"))
        return self.weight * at_least_float32(full) + (1 - self.weight) * at_least_float32(pruned)


def prunable_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights of a model's linear and convolution layers, without its embeddings and its output head.

    Raises:
        ValueError: There are none.
    """
    base, head = model, None
    if isinstance(model, PreTrainedModel):
        base, head = model.base_model, model.get_output_embeddings()
    layers = [module for module in base.modules() if isinstance(module, PRUNABLE) and module is not head]
    if base is model and head is None:
        layers = layers[:-1]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no linear or convolution layer besides its output head, so there is nothing "
            "to prune; use the teacher without `pruned`"
        )
    return [layer.weight for layer in layers]


@torch.no_grad()
def zero_smallest(weights: Sequence[Tensor], rate: float) -> None:
    """Zero in place the share `rate` of each tensor that is nearest to zero; the number is rounded."""
    for weight in weights:
        smallest = weight.abs().flatten().topk(round(rate * weight.numel()), largest=False).indices
        gone = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        gone[smallest] = True
        weight.masked_fill_(gone.view(weight.shape), 0.0)
