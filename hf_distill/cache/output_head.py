"""The output layer of a teacher's revision on disk, for rows that are kept in front of it."""

from __future__ import annotations

from pathlib import Path

import torch

from hf_distill.cache.mapped import MappedTensors, Written, write_tensors
from hf_distill.kernels.head_rows import HeadRows
from hf_distill.kernels.heads import Head


def save_head(folder: Path, rows: HeadRows, *, commit: str) -> Written:
    """Write the head of a revision into a folder.

    Args:
        folder: Where its file goes.
        rows: Any rows in front of it.
        commit: The revision.
    """
    tensors = {"weight": rows.weight_VH.detach().cpu()}
    tensors |= {} if rows.bias_V is None else {"bias": rows.bias_V.detach().cpu()}
    metadata = {"commit": commit, "scale": repr(float(rows.scale))}
    metadata |= {} if rows.softcap is None else {"softcap": repr(float(rows.softcap))}
    return write_tensors(folder, tensors, metadata=metadata)


def load_head(path: Path, *, device: torch.device | None = None) -> Head:
    """Read a head that `save_head` wrote, onto a device.

    Raises:
        ValueError: The file is not whole.
    """
    file = MappedTensors(path)
    softcap = file.metadata.get("softcap")
    return Head(
        weight_VH=file.tensor("weight").to(device),
        bias_V=file.tensor("bias").to(device) if "bias" in file.names else None,
        scale=float(file.metadata["scale"]),
        softcap=None if softcap is None else float(softcap),
    )
