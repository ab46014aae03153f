"""New weights for a teacher that is in memory: copied in place, so that wrappers and optimizers keep their tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def names_fit(tensors: dict[str, Tensor], model: torch.nn.Module) -> bool:
    """Return whether the file's names are the module's; a missing name is fine where another one shares its memory."""
    state = model.state_dict()
    if not set(tensors) <= set(state):
        return False
    present = {state[name].data_ptr() for name in tensors}
    return all(state[name].data_ptr() in present for name in set(state) - set(tensors))


@torch.no_grad()
def copy_in_place(tensors: dict[str, Tensor], model: torch.nn.Module, *, what: str) -> None:
    """Copy tensors into the module's own memory, after checking all shapes, so that a refusal changes nothing.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    state = model.state_dict()
    wrong = [
        f"{name}: {tuple(tensors[name].shape)} instead of {tuple(state[name].shape)}"
        for name in tensors
        if name in state and tensors[name].shape != state[name].shape
    ]
    if wrong or not names_fit(tensors, model):
        raise misfit(what, wrong or sorted(set(state) ^ set(tensors)))
    for name, tensor in tensors.items():
        state[name].copy_(tensor, non_blocking=True)


def misfit(what: str, problems: Sequence[str]) -> ValueError:
    """Return the error of weights that belong to another architecture.

    Args:
        what: Does not fit.
        problems: Names and shapes.
    """
    return ValueError(
        f"{what} does not fit the teacher in memory: {'; '.join(problems[:3])}. All revisions of a sequence must have "
        "one architecture"
    )
