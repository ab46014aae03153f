"""The sizes of a model that can be cut, and those of a narrower one: which widths go together, and which cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedConfig

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.families import Family, Stack, family_of


@dataclass(frozen=True, kw_only=True)
class StackSize:
    """Sizes of a pile of layers.

    Attributes:
        layers: How many.
        heads: Attention heads of a layer.
        key_heads: Of them those with keys and values of their own.
        head: Size of a head.
        neurons: Of a feed-forward layer.
    """

    layers: int
    heads: int
    key_heads: int
    head: int
    neurons: int

    @property
    def group(self) -> int:
        """How many heads share their keys and values."""
        return self.heads // self.key_heads


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Width of the hidden states, and the sizes of each pile of layers by its name."""

    hidden: int
    stacks: Mapping[str, StackSize]


def sizes_of(config: PreTrainedConfig) -> ModelSizes:
    """Return the sizes that a configuration names.

    Raises:
        ValueError: The architecture cannot be cut.
    """
    family, values = family_of(config), config.to_dict()
    hidden = int(values[family.hidden])
    return ModelSizes(
        hidden=hidden, stacks={name: _stack_size(family, stack, values) for name, stack in family.stacks.items()}
    )


def _stack_size(family: Family, stack: Stack, values: Mapping[str, Any]) -> StackSize:
    hidden, heads = int(values[family.hidden]), int(values[stack.heads])
    given = values.get(family.head_size) if family.head_size is not None else None
    key_heads = values.get(stack.key_heads) if stack.key_heads is not None else None
    return StackSize(
        layers=int(values[stack.layers]),
        heads=heads,
        key_heads=int(key_heads or heads),
        head=int(given or hidden // heads),
        # GPT-2 leaves its own out where it is four times the hidden width.
        neurons=int(values[stack.neurons] or 4 * hidden),
    )


def widths_of(sizes: ModelSizes) -> dict[str, int]:
    """Return the widths under the names that a cut has for them; of an encoder-decoder the encoder's."""
    first = next(iter(sizes.stacks.values()))
    return {
        "hidden_size": sizes.hidden,
        "num_attention_heads": first.heads,
        **({"num_key_value_heads": first.key_heads} if first.group > 1 else {}),
        "intermediate_size": first.neurons,
    }


def narrowed_sizes(config: PreTrainedConfig, cut: StudentCut) -> ModelSizes:
    """Return the sizes of a student of the widths that are asked for; its layers are not looked at.

    Raises:
        ValueError: A width is larger than the teacher's, or goes with none of its heads; the message says what goes.
    """
    family, before = family_of(config), sizes_of(config)
    for key, most in (("hidden_size", before.hidden), *_most(before).items()):
        wanted = vars(cut)[key]
        if wanted is not None and wanted > most:
            raise ValueError(f"{key}: a student is cut out of its teacher, which has {most}; {wanted} is more")
    if family.head_size is None:
        hidden, heads = _filled_by_heads(str(config.model_type), before, cut)
    else:
        wanted_heads = cut.num_attention_heads
        hidden = before.hidden if cut.hidden_size is None else cut.hidden_size
        heads = {name: wanted_heads or stack.heads for name, stack in before.stacks.items()}
    if family.computed_positions and before.hidden % hidden:
        shares = [str(before.hidden // share) for share in (2, 3, 4, 6, 8) if before.hidden % share == 0]
        raise ValueError(
            f"hidden_size: {hidden} does not divide {before.hidden}; the positions of a {config.model_type!r} model "
            f"are sinusoids, of which every n-th unit can be kept. Choose one of {', '.join(shares)}"
        )
    stacks = {}
    for name, stack in before.stacks.items():
        if heads[name] % stack.group:
            raise ValueError(
                f"num_attention_heads: {heads[name]} would tear apart groups of {stack.group} heads that share their "
                f"keys and values; choose a multiple of {stack.group} up to {stack.heads}"
            )
        neurons = stack.neurons if cut.intermediate_size is None else cut.intermediate_size
        stacks[name] = replace(stack, heads=heads[name], key_heads=heads[name] // stack.group, neurons=neurons)
    return ModelSizes(hidden=hidden, stacks=stacks)


def _most(before: ModelSizes) -> dict[str, int]:
    return {
        "num_attention_heads": min(stack.heads for stack in before.stacks.values()),
        "intermediate_size": min(stack.neurons for stack in before.stacks.values()),
    }


def _filled_by_heads(kind: str, before: ModelSizes, cut: StudentCut) -> tuple[int, dict[str, int]]:
    """Return hidden width and heads of each stack where the heads fill the hidden states."""
    first = next(iter(before.stacks.values()))
    hidden = cut.hidden_size
    if hidden is None:
        hidden = before.hidden if cut.num_attention_heads is None else cut.num_attention_heads * first.head
    heads = {name: hidden // stack.head for name, stack in before.stacks.items()}
    sizes = sorted({stack.head for stack in before.stacks.values()})
    if any(hidden % size for size in sizes):
        raise ValueError(
            f"hidden_size: {hidden} is no multiple of {' and '.join(map(str, sizes))}; heads keep their size and fill "
            f"the hidden states of a {kind!r} model. Choose one of {_multiples(before.hidden, sizes)}"
        )
    if cut.num_attention_heads is not None and cut.num_attention_heads != heads[next(iter(heads))]:
        raise ValueError(
            f"num_attention_heads: {cut.num_attention_heads} heads of size {first.head} do not fill {hidden} hidden "
            f"units, as they must in a {kind!r} model; give {hidden // first.head}, or leave one of the two out"
        )
    return hidden, heads


def _multiples(most: int, sizes: list[int]) -> str:
    fitting = [str(width) for width in range(max(sizes), most + 1, max(sizes)) if not any(width % s for s in sizes)]
    return ", ".join(fitting if len(fitting) <= 8 else [*fitting[:4], "...", fitting[-1]])
