"""The best student of a stage on held-out data, kept so that the next stage can start from it (Annealing-KD)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FILE_NAME = "stage_best.safetensors"


def best_step_of_stage(
    history: Sequence[Mapping[str, float]], *, since: int, metric: str, greater_is_better: bool
) -> int | None:
    """Return the step of the best held-out point after step `since`; the first of equals, None where there is none.

    A point whose metric is not a number is no candidate.

    Raises:
        ValueError: The metric is not among the held-out metrics.
    """
    points = [point for point in history if point["step"] > since]
    if points and metric not in points[-1]:
        raise ValueError(
            f"curriculum.metric: no held-out metric {metric!r}; there are {sorted(set(points[-1]) - {'step'})}"
        )
    candidates = [point for point in points if metric in point and not math.isnan(point[metric])]
    if not candidates:
        return None
    sign = 1.0 if greater_is_better else -1.0
    return int(max(candidates, key=lambda point: sign * point[metric])["step"])


def save_stage_best(model: torch.nn.Module, folder: str | Path, *, step: int) -> None:
    """Write the student's weights and their step, atomically; tensors that share memory are written once."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(_distinct(model.state_dict()), temporary, metadata={"step": str(step)})
    temporary.replace(path)


def copy_stage_best(source: str | Path, target: str | Path) -> None:
    """Copy the kept weights from one folder to another, atomically, where there are any.

    A checkpoint carries them, so that it can be continued after the output folder has gone on to later ones.
    """
    path = Path(source) / FILE_NAME
    if path.exists():
        temporary = Path(target) / "stage_best.partial"
        shutil.copyfile(path, temporary)
        temporary.replace(Path(target) / FILE_NAME)


def load_stage_best(model: torch.nn.Module, folder: str | Path, *, step: int | None) -> None:
    """Copy the kept weights into the student, in place.

    Args:
        model: The student, without wrappers.
        folder: Where they are kept.
        step: Of the stage's best evaluation, as the log tells; None where it has none.

    Raises:
        ValueError: The stage has no best student, or it is not the one that is kept.
    """
    path = Path(folder) / FILE_NAME
    if step is None:
        raise ValueError(
            "no evaluation of the stage before gave a number, so that there is no best student to go on from; lower "
            "the learning rate if the loss is not finite, or eval_steps if no evaluation took place"
        )
    kept = _step_of(path) if path.exists() else None
    if kept != step:
        raise ValueError(
            f"the best student of the stage before is that of step {step}, but {path} "
            f"{'does not exist' if kept is None else f'holds step {kept}'}; resume from a checkpoint before step "
            f"{step}, or keep {FILE_NAME} with its run"
        )
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            state[name].copy_(tensor)


def _step_of(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int((file.metadata() or {}).get("step", -1))


def _distinct(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    seen: set[int] = set()
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        # Empty tensors have no memory to share: they all lie at address 0.
        if tensor.numel() == 0 or tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor.detach().cpu().contiguous()
    return kept
