"""What FSDP2 needs of a model before accelerate splits it: fitting layers, and no parameter in two places.

accelerate splits input and output embeddings as units of their own, after the layers. It fails where a layer's class
holds the embeddings, as BERT's does, and PyTorch fails where a parameter of theirs is also another module's: BERT's
output bias, T5's three embeddings.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from accelerate import Accelerator, DistributedType
from torch import nn
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from transformers import PreTrainedModel


class _Place(NamedTuple):
    """Where a parameter is registered."""

    owner: nn.Module
    path: str
    name: str


def fit_for_fsdp(model: nn.Module, accelerator: Accelerator) -> None:
    """Prepare a model that FSDP2 will split; under any other engine nothing is done.

    Args:
        model: Not yet split.
        accelerator: Its FSDP plugin is told which layers to split, unless the user has said so.
    """
    plugin = accelerator.state.fsdp_plugin if accelerator.distributed_type == DistributedType.FSDP else None
    if plugin is None or plugin.fsdp_version != 2:
        return
    by_layer = plugin.auto_wrap_policy is transformer_auto_wrap_policy
    if by_layer and plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(model)
    give_parameters_one_place(model)


def layer_classes(model: nn.Module) -> list[str]:
    """Return the names of the layers' classes that transformers says not to split, without those of embeddings."""
    named = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    wanted = set(named._no_split_modules or ()) if named is not None else set()
    holders = {
        type(module).__name__
        for module in model.modules()
        for part in embeddings_of(model)
        if part in module.modules()
    }
    present = {type(module).__name__ for module in model.modules()}
    return sorted(wanted & present - holders)


def give_parameters_one_place(model: nn.Module) -> None:
    """Leave parameters of the embeddings with them alone.

    A module that has nothing but a tied parameter becomes the embedding itself. A mere second name of a parameter, as
    BERT's `cls.predictions.bias` is of its decoder's, is taken away: transformers reads either name.
    """
    embeddings = embeddings_of(model)
    places: dict[nn.Parameter, list[_Place]] = {}
    for path, owner in model.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            places.setdefault(parameter, []).append(_Place(owner, path, name))
    for found in places.values():
        kept = next((place for place in found if place.owner in embeddings), None)
        for other in found if kept is not None else []:
            if other.owner in embeddings:
                continue
            assert kept is not None
            if type(other.owner) is type(kept.owner) and len(list(other.owner.parameters())) == 1:
                model.set_submodule(other.path, kept.owner)
            else:
                other.owner.register_parameter(other.name, None)


def embeddings_of(model: nn.Module) -> list[nn.Module]:
    """Return a model's input and output embeddings, as far as it has them."""
    named = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if named is None:
        return []
    found = []
    for getter in (named.get_input_embeddings, named.get_output_embeddings):
        with suppress(NotImplementedError):  # Of a model whose input is no table's.
            found.append(getter())
    return [module for module in found if module is not None]
