"""A safetensors file written under the name of its content, and read through a memory map without loading it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from hf_distill.atomic import atomic_write_bytes
from hf_distill.teachers.weight_files import safetensors_problem

SUFFIX = ".safetensors"
_ABOUT = "hf_distill"

# numpy has no bfloat16; its bits travel as those of a 16-bit integer.
_KINDS: dict[str, tuple[str, torch.dtype]] = {
    "F64": ("<f8", torch.float64),
    "F32": ("<f4", torch.float32),
    "F16": ("<f2", torch.float16),
    "BF16": ("<i2", torch.bfloat16),
    "I64": ("<i8", torch.int64),
    "I32": ("<i4", torch.int32),
    "I8": ("i1", torch.int8),
    "U8": ("u1", torch.uint8),
}


class Written(NamedTuple):
    """A file as it was written: name, SHA-256 of its content, size in bytes."""

    name: str
    sha256: str
    size: int


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> Written:
    """Write tensors, atomically, into a file whose name is the SHA-256 of its content.

    The name lets a file prove by itself that it is whole: what a killed process left needs no list to be checked with.
    """
    # One entry: the order of several would differ from one process to the next, and with it the name.
    about = {_ABOUT: json.dumps(dict(metadata), sort_keys=True)}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=about)
    digest = hashlib.sha256(data).hexdigest()
    atomic_write_bytes(folder / f"{digest}{SUFFIX}", data)
    return Written(f"{digest}{SUFFIX}", digest, len(data))


class MappedTensors:
    """The tensors of a safetensors file, read from disk where and when they are looked at.

    Args:
        path: The file.

    Raises:
        ValueError: It is missing, cut short or of a kind that caches do not have.
    """

    def __init__(self, path: Path) -> None:
        problem = safetensors_problem(path)
        if problem:
            raise ValueError(f"{path.parent}: {problem}")
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length))
        self.path = path
        self.metadata: dict[str, str] = json.loads(header.pop("__metadata__", {}).get(_ABOUT, "{}"))
        self._entries = header
        self._start = 8 + length
        # A plain array on the map: slices of numpy's own class for maps cost several times as much.
        self._octets = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))

    @property
    def names(self) -> list[str]:
        """Names of the tensors."""
        return sorted(self._entries)

    def array(self, name: str) -> NDArray[Any]:
        """Return a tensor as an array on the map; bfloat16 as 16-bit integers.

        Raises:
            ValueError: The file has no such tensor, or one of an unknown kind.
        """
        entry = self._entry(name)
        begin, end = entry["data_offsets"]
        octets = self._octets[self._start + begin : self._start + end]
        return octets.view(_KINDS[entry["dtype"]][0]).reshape(entry["shape"])

    def rows(self, name: str, rows: NDArray[np.int64] | slice) -> Tensor:
        """Return some rows of a tensor, copied."""
        return torch.from_numpy(np.array(self.array(name)[rows])).view(_KINDS[self._entry(name)["dtype"]][1])

    def tensor(self, name: str) -> Tensor:
        """Return a whole tensor, copied."""
        return self.rows(name, slice(None))

    def _entry(self, name: str) -> dict[str, Any]:
        entry = self._entries.get(name)
        if entry is None or entry["dtype"] not in _KINDS:
            known = ", ".join(f"{key} ({value['dtype']})" for key, value in self._entries.items())
            raise ValueError(f"{self.path} has no readable tensor {name!r}; it has {known}")
        return entry
