"""Names of weights, taken apart: in which pile of layers one lies, in which layer, and what it is there."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedModel

from hf_distill.student_making.families import Family, Stack


class WeightName(NamedTuple):
    """A weight's name.

    Attributes:
        prefix: What stands before the base model's own names, "" or such as "bert.".
        stack: Name of the pile of layers, None for a weight outside.
        layer: Which one, counted from 1; None for a weight outside.
        rest: The name in its layer, or below the prefix for a weight outside.
    """

    prefix: str
    stack: str | None
    layer: int | None
    rest: str

    @classmethod
    def of(cls, name: str, model: PreTrainedModel, family: Family) -> WeightName:
        """Take a name of the model's state apart."""
        base = f"{model.base_model_prefix}."
        prefix = base if name.startswith(base) else ""
        inside = name.removeprefix(prefix)
        for key, stack in family.stacks.items():
            found = re.fullmatch(rf"{re.escape(stack.path)}\.(\d+)\.(.+)", inside)
            if found:
                return cls(prefix, key, int(found[1]) + 1, found[2])
        return cls(prefix, None, None, inside)

    def at(self, layer: int, stack: Stack) -> str:
        """Return the full name that the weight has in another layer, counted from 1."""
        return f"{self.prefix}{stack.path}.{layer - 1}.{self.rest}"


def layers_at(model: PreTrainedModel, stack: Stack) -> list[nn.Module]:
    """Return the layers of a stack, none where the model has no such stack (an encoder taken out of T5)."""
    try:
        found = model.base_model.get_submodule(stack.path)
    except AttributeError:
        return []
    return list(found.children())
