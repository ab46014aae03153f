"""Which heads, neurons and hidden units of its teacher a narrower student keeps.

Hidden units are the same in all layers, because layers add to each other's states. Heads and neurons are chosen layer
by layer, but for models whose first layer has one table of positions for the heads of all (T5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.families import Family, family_of
from hf_distill.student_making.layer_choice import Layers
from hf_distill.student_making.names import WeightName
from hf_distill.student_making.sizes import ModelSizes, StackSize, sizes_of
from hf_distill.student_making.weight_axes import axes_of

HIDDEN = "h"
Place = tuple[str, int, str]
"""A stack, a layer of it counted from 1, and the letter of its units: q and x groups of heads, f neurons."""
_UNIT_OF = {"q": "q", "k": "q", "b": "q", "3": "q", "x": "x", "f": "f"}


@dataclass(frozen=True)
class KeptUnits:
    """Numbers of the units that stay, counted from 0 and rising.

    Attributes:
        hidden: Hidden units, of all layers.
        inside: Groups of heads (each with one key head) and neurons of each layer.
    """

    hidden: Tensor
    inside: dict[Place, Tensor] = field(default_factory=dict)


def kept_units(
    teacher: PreTrainedModel,
    cut: StudentCut,
    sizes: ModelSizes,
    layers: Layers,
    *,
    sensitivity: Mapping[str, Tensor] | None = None,
) -> KeptUnits:
    """Choose the units that stay.

    Args:
        teacher: Its weights are looked at where the cut chooses by `norm`.
        cut: Says how to choose.
        sizes: The student's.
        layers: The layers that stay; others have no say in which hidden units do.
        sensitivity: Of each parameter, where the cut chooses by it.

    Raises:
        ValueError: A weight whose axes are not known.
    """
    before = sizes_of(teacher.config)
    worth = None
    if cut.choose != "first":
        weights = _weighing(teacher, sensitivity if cut.choose == "sensitivity" else None)
        worth = unit_worths(teacher, layers, weights)
    if family_of(teacher.config).computed_positions:
        # Of the sinusoids of a width, every n-th is a sinusoid of the width divided by n.
        hidden = torch.arange(0, before.hidden, before.hidden // sizes.hidden)
    else:
        hidden = _best(None if worth is None else worth.hidden, before.hidden, sizes.hidden)
    inside = {}
    for name, now in sizes.stacks.items():
        for layer in layers[name]:
            for letter, (there, stay) in _counts(before.stacks[name], now).items():
                place = (name, layer, letter)
                inside[place] = _best(None if worth is None else worth.inside.get(place), there, stay)
    return KeptUnits(hidden, inside)


def _counts(before: StackSize, now: StackSize) -> dict[str, tuple[int, int]]:
    groups = (before.key_heads, now.key_heads)
    return {"q": groups, "x": groups, "f": (before.neurons, now.neurons)}


def unit_worths(teacher: PreTrainedModel, layers: Layers, weigh: Callable[[str, Tensor], Tensor]) -> KeptUnits:
    """Return what each unit is worth: the sum over all weights that read it or write to it.

    Args:
        teacher: Whose units they are.
        layers: The layers that stay.
        weigh: From name and values of a parameter to what each of its entries is worth, at least 0.

    Raises:
        ValueError: A weight whose axes are not known.
    """
    family, before = family_of(teacher.config), sizes_of(teacher.config)
    found = KeptUnits(torch.zeros(before.hidden, dtype=torch.float64))
    for full_name, parameter in teacher.named_parameters():
        name = WeightName.of(full_name, teacher, family)
        if name.stack is not None and name.layer not in layers[name.stack]:
            continue
        worth = weigh(full_name, parameter.detach())
        for axis, letter in enumerate(checked_axes(full_name, name, family, tuple(parameter.shape), before)):
            along = worth.double().movedim(axis, 0).reshape(worth.shape[axis], -1).sum(1).cpu()
            if letter == HIDDEN:
                found.hidden.add_(along)
            elif letter in _UNIT_OF:
                assert name.stack is not None and name.layer is not None
                place = (name.stack, name.layer, _UNIT_OF[letter])
                units = _by_unit(along, letter, before.stacks[name.stack])
                found.inside[place] = found.inside[place] + units if place in found.inside else units
    for stack, kept in layers.items():
        if family.stacks[stack].one_choice_of_heads and (stack, kept[0], "q") in found.inside:
            together = torch.stack([found.inside[stack, layer, "q"] for layer in kept]).sum(0)
            found.inside.update({(stack, layer, "q"): together for layer in kept})
    return found


def checked_axes(full_name: str, name: WeightName, family: Family, shape: tuple[int, ...], sizes: ModelSizes) -> str:
    """Return the letters of a weight's axes.

    Raises:
        ValueError: The weight is not known, or is not as large as its axes say.
    """
    axes = axes_of(name.rest, family.around if name.stack is None else family.stacks[name.stack].weights)
    if axes is None:
        raise ValueError(
            f"{full_name} is no weight that is known of these models, so their width cannot be cut; cut `layers` only"
        )
    there = [_axis_size(letter, name, sizes) for letter in axes]
    if len(shape) != len(axes) or any(size not in (None, given) for size, given in zip(there, shape, strict=False)):
        raise ValueError(
            f"{full_name} has shape {shape} where {tuple(size or 'any' for size in there)} was expected, so the width "
            "of this model cannot be cut; cut `layers` only"
        )
    return axes


def _axis_size(letter: str, name: WeightName, sizes: ModelSizes) -> int | None:
    if letter == HIDDEN:
        return sizes.hidden
    if letter == "." or name.stack is None:
        return None
    size = sizes.stacks[name.stack]
    heads = size.heads * size.head
    return {
        "q": heads,
        "x": heads,
        "3": 3 * heads,
        "k": size.key_heads * size.head,
        "b": size.heads,
        "f": size.neurons,
    }[letter]


def _by_unit(along: Tensor, letter: str, size: StackSize) -> Tensor:
    """Add up what belongs to one group of heads, or to one neuron. Shapes: (axis,) -> (units,)."""
    if letter == "f":
        return along
    if letter == "3":
        return along.view(3, size.key_heads, -1).sum((0, 2))
    return along.view(size.key_heads, -1).sum(1)


def _weighing(teacher: PreTrainedModel, sensitivity: Mapping[str, Tensor] | None) -> Callable[[str, Tensor], Tensor]:
    if sensitivity is not None:
        return lambda name, values: sensitivity[name]
    return lambda name, values: values.float().square()


def _best(worth: Tensor | None, there: int, stay: int) -> Tensor:
    """Return the numbers of the units that are worth most, rising; of equal ones the first stay."""
    if worth is None:
        return torch.arange(stay)
    return worth.argsort(descending=True, stable=True)[:stay].sort().values
