"""The configuration of a student that is cut out of its teacher."""

from __future__ import annotations

from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.families import family_of
from hf_distill.student_making.layer_choice import Layers, kept_layers
from hf_distill.student_making.sizes import ModelSizes, narrowed_sizes, sizes_of

_LAYER_BY_LAYER = "layer_types"


def student_config(config: PreTrainedConfig, cut: StudentCut, *, layers: Layers | None = None) -> PreTrainedConfig:
    """Return the teacher's configuration with the student's sizes.

    Args:
        config: The teacher's.
        cut: What is asked for.
        layers: The layers that stay; by default those of the cut, as far as they are known without data.

    Raises:
        ValueError: The architecture cannot be cut, a size does not fit, or transformers refuses the sizes together.
    """
    kept = layers if layers is not None else kept_layers(config, cut)
    changes = config_changes(config, kept, narrowed_sizes(config, cut))
    types = config.to_dict().get(_LAYER_BY_LAYER)
    if types is not None:
        changes[_LAYER_BY_LAYER] = [types[number - 1] for number in kept["layers"]]
    try:
        return type(config).from_dict({**config.to_dict(), **changes})
    except (StrictDataclassError, ValueError) as error:
        asked = ", ".join(f"{key} {value}" for key, value in changes.items() if key != _LAYER_BY_LAYER)
        raise ValueError(f"{type(config).__name__} refuses {asked}: {' '.join(str(error).split())}") from error


def config_changes(config: PreTrainedConfig, layers: Layers, sizes: ModelSizes) -> dict[str, Any]:
    """Return the keys of a configuration that a student's sizes change, with their new values.

    Args:
        config: The teacher's.
        layers: The layers that stay.
        sizes: The student's widths.
    """
    family, before, values = family_of(config), sizes_of(config), config.to_dict()
    wanted: dict[str, int] = {family.hidden: sizes.hidden}
    for name, stack in family.stacks.items():
        size = sizes.stacks[name]
        wanted |= {stack.layers: len(layers[name]), stack.heads: size.heads, stack.neurons: size.neurons}
        if stack.key_heads is not None:
            wanted[stack.key_heads] = size.key_heads
    if sizes == before:
        # GPT-2's null stays null.
        wanted = {key: value for key, value in wanted.items() if values.get(key) is not None}
    first = next(iter(sizes.stacks.values()))
    if family.head_size is not None and first.head != sizes.hidden // first.heads:
        wanted[family.head_size] = first.head
    return {key: value for key, value in wanted.items() if values.get(key) != value}
