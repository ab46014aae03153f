"""The weights of a student, taken out of its teacher's: the layers that stay in their new places, axes cut alike."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.student_making.families import Family, family_of
from hf_distill.student_making.layer_choice import Layers
from hf_distill.student_making.names import WeightName
from hf_distill.student_making.sizes import ModelSizes, StackSize, sizes_of
from hf_distill.student_making.units import HIDDEN, KeptUnits, checked_axes

_LOOKED_UP = ("shared.weight", "embed_tokens.weight")


def student_state(teacher: PreTrainedModel, layers: Layers, units: KeptUnits | None = None) -> dict[str, Tensor]:
    """Return the state of a student: copies, none of the teacher's own tensors.

    Weights that the first layer has for all (T5's table of positions) go to the layer that is the first now.

    Args:
        teacher: Whose weights they are.
        layers: The layers that stay, counted from 1.
        units: The units that stay; None keeps the width.

    Raises:
        ValueError: A weight whose axes are not known, where the width is cut.
    """
    family, before = family_of(teacher.config), sizes_of(teacher.config)
    state = {}
    for full_name, tensor in teacher.state_dict().items():
        name = WeightName.of(full_name, teacher, family)
        new_name = _new_name(full_name, name, family, layers)
        if new_name is None:
            continue
        cut = tensor.clone()
        if units is not None:
            axes = checked_axes(full_name, name, family, tuple(tensor.shape), before)
            cut = _cut(cut, axes, name, before, _heads_of_all(name, family, layers), units)
        state[new_name] = cut
    if units is not None:
        _rescale_embeddings(state, teacher, family, kept=len(units.hidden), before=before)
    return state


def _new_name(full_name: str, name: WeightName, family: Family, layers: Layers) -> str | None:
    if name.stack is None or name.layer is None:
        return full_name
    stack, kept = family.stacks[name.stack], layers[name.stack]
    if name.rest == stack.first_only:
        return name.at(1, stack)
    return name.at(kept.index(name.layer) + 1, stack) if name.layer in kept else None


def _heads_of_all(name: WeightName, family: Family, layers: Layers) -> int | None:
    """Return the layer whose units a weight has: its own, or one that stays for what serves all."""
    if name.stack is not None and name.rest == family.stacks[name.stack].first_only:
        return layers[name.stack][0]
    return name.layer


def _cut(
    tensor: Tensor, axes: str, name: WeightName, before: ModelSizes, layer: int | None, units: KeptUnits
) -> Tensor:
    for axis, letter in enumerate(axes):
        if letter == HIDDEN:
            index = units.hidden
        elif letter == "." or name.stack is None or layer is None:
            continue
        else:
            index = _entries(letter, units.inside, (name.stack, layer), before.stacks[name.stack])
        tensor = tensor.index_select(axis, index.to(tensor.device))
    return tensor


def _entries(
    letter: str, inside: Mapping[tuple[str, int, str], Tensor], layer: tuple[str, int], size: StackSize
) -> Tensor:
    """Return the entries of an axis that stay: those of the groups of heads, or of the neurons. Shapes: (entries,)."""
    if letter == "f":
        return inside[(*layer, "f")]
    groups = inside[(*layer, "x" if letter == "x" else "q")]
    if letter == "b":
        return _spread(groups, size.group)
    if letter == "k":
        return _spread(groups, size.head)
    heads = _spread(groups, size.group * size.head)
    if letter == "3":
        return torch.cat([heads + part * size.heads * size.head for part in range(3)])
    return heads


def _spread(units: Tensor, width: int) -> Tensor:
    """Return the entries of units that lie `width` side by side. Shapes: (units,) -> (units · width,)."""
    return (units[:, None] * width + torch.arange(width)).flatten()


def _rescale_embeddings(
    state: dict[str, Tensor], teacher: PreTrainedModel, family: Family, *, kept: int, before: ModelSizes
) -> None:
    """Make up for a forward that multiplies embeddings by the root of the width, so that the first layer reads
    what the teacher's does.
    """
    if family.scaled_embeddings is None or kept == before.hidden:
        return
    if not teacher.config.to_dict().get(family.scaled_embeddings):
        return
    weights = dict(teacher.named_parameters(remove_duplicate=False))
    looked_up = {id(weight) for name, weight in weights.items() if name.endswith(_LOOKED_UP)}
    for name, weight in weights.items():
        # A tied head is the same weight and stays it.
        if id(weight) in looked_up:
            state[name] = state[name] * math.sqrt(before.hidden / kept)
