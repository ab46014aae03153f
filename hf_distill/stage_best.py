"""The best student of a stage on held-out data, kept so that the next stage can start from it (Annealing-KD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FILE_NAME = "stage_best.safetensors"


def is_best_of_stage(
    history: Sequence[Mapping[str, float]], *, since: int, metric: str, greater_is_better: bool
) -> bool:
    """Return whether the last held-out point is the best one after step `since`; the first of equals stays.

    Raises:
        ValueError: The metric is not among the held-out metrics.
    """
    points = [point for point in history if point["step"] > since]
    if not points:
        return False
    if metric not in points[-1]:
        raise ValueError(
            f"annealing.metric: no held-out metric {metric!r}; there are {sorted(set(points[-1]) - {'step'})}"
        )
    sign = 1.0 if greater_is_better else -1.0
    values = [sign * point[metric] for point in points]
    return all(values[-1] > value for value in values[:-1])


def save_stage_best(model: torch.nn.Module, folder: str | Path) -> None:
    """Write the student's weights, atomically; tensors that share memory are written once."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(_distinct(model.state_dict()), temporary)
    temporary.replace(path)


def load_stage_best(model: torch.nn.Module, folder: str | Path) -> None:
    """Copy the kept weights into the student, in place.

    Raises:
        ValueError: No evaluation fell into the stage, so that there is no best student.
    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        raise ValueError(
            f"no evaluation took place in the stage before (no {path.name}); lower eval_steps so that a best student "
            "is found before the switch"
        )
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            state[name].copy_(tensor)


def _distinct(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    seen: set[int] = set()
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor.detach().cpu().contiguous()
    return kept
