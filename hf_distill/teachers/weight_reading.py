"""Tensors of a model folder, read into CPU memory: all of it, shards merged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hf_distill.teachers.weight_files import weight_files, weights_format


def read_tensors(folder: str | Path, *, stopped: threading.Event | None = None) -> dict[str, Tensor]:
    """Return all tensors of a model folder by name, in CPU memory, shards merged.

    Args:
        folder: Folder with safetensors, or with pickled weights where it has none.
        stopped: Ends the reading early when set; the result is then incomplete.

    Raises:
        ValueError: The folder holds no weights, or two shards hold a tensor of one name.
    """
    # A tensor of a file is a view of its memory map: without a copy, the swap would wait for the disk, and a
    # checkpoint rewritten meanwhile would change it. clone releases the GIL while it reads.
    return {name: stored[...].clone() for name, _, stored in each_tensor(folder, stopped=stopped)}


def each_tensor(
    folder: str | Path, *, stopped: threading.Event | None = None
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Give each tensor of a model folder: its name, its shape, and what gives its numbers when it is indexed.

    Of safetensors nothing is read but what is indexed, while the next tensor has not been asked for.

    Args:
        folder: As `read_tensors`.
        stopped: As `read_tensors`.

    Raises:
        ValueError: As `read_tensors`.
    """
    folder = Path(folder)
    of_file = _pickled if weights_format(folder) == "pickle" else _safetensors
    seen: set[str] = set()
    for path in weight_files(folder):
        for name, shape, stored in of_file(path):
            if stopped is not None and stopped.is_set():
                return
            if name in seen:
                raise ValueError(f"{path.name} in {folder} holds {name} once more than the other shards")
            seen.add(name)
            yield name, shape, stored


def _safetensors(path: Path) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 (the handle is no mapping)
            stored = file.get_slice(name)
            yield name, tuple(stored.get_shape()), stored


def _pickled(path: Path) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items():
        yield name, tuple(tensor.shape), tensor
