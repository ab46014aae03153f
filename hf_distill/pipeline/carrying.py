"""How much of a trained model is in one that was built from it with another head."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from hf_distill.teachers.weight_files import weight_files


def carried_share(model: PreTrainedModel, folder: Path) -> float:
    """Return the share of a model's parameters that are those of a folder's weights, bit by bit.

    Transformers draws at random what it does not find, with a warning only; a student would be fine-tuned from nothing
    and look like a bad one.

    Args:
        model: Built from the folder, untrained since.
        folder: With safetensors.

    Raises:
        ValueError: No parameter of the model's body came from there.
    """
    prefix = f"{model.base_model_prefix}."
    body = {id(parameter) for parameter in model.base_model.parameters()}
    total = carried = of_body = 0
    found = _Weights(folder)
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if found.holds(name, prefix, parameter):
            carried += parameter.numel()
            of_body += id(parameter) in body
    if not of_body:
        raise ValueError(
            f"none of the weights in {folder} is in a {type(model).__name__} built from them: the layers have other "
            "names, and fine-tuning would begin from nothing"
        )
    return carried / total


class _Weights:
    """The tensors of a folder, by name with or without the prefix of the body."""

    def __init__(self, folder: Path) -> None:
        self._files = {}
        for file in weight_files(folder):
            with safe_open(file, framework="pt") as tensors:
                self._files.update(dict.fromkeys(tensors.keys(), file))

    def holds(self, name: str, prefix: str, parameter: nn.Parameter) -> bool:
        for candidate in (name, name.removeprefix(prefix), prefix + name):
            if candidate in self._files:
                with safe_open(self._files[candidate], framework="pt") as tensors:
                    kept = tensors.get_tensor(candidate)
                return kept.shape == parameter.shape and torch.equal(kept.to(parameter), parameter.detach())
        return False
