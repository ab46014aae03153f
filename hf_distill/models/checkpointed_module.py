"""Modules that are trained beside the student: in every checkpoint, absent from the exported student."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from safetensors.torch import load_file, save
from torch import nn

from hf_distill.atomic import atomic_write_bytes


class CheckpointedModule(nn.Module):
    """A module with a file of its own in each checkpoint; one without tensors leaves none.

    Attributes:
        file_name: Of the file.
        what: The module's tensors for people, as in "no projectors".
    """

    file_name: ClassVar[str]
    what: ClassVar[str]

    def save(self, folder: str | Path) -> None:
        """Write the tensors into a checkpoint, atomically."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        if tensors:
            atomic_write_bytes(Path(folder) / self.file_name, save(tensors))

    def load(self, folder: str | Path) -> None:
        """Read the tensors from a checkpoint.

        Raises:
            ValueError: The checkpoint has none, or those of other layers or widths.
        """
        if not self.state_dict():
            return
        path = Path(folder) / self.file_name
        if not path.exists():
            raise ValueError(f"{folder} has no {self.file_name}: its run had no {self.what}; resume another")
        try:
            self.load_state_dict(load_file(path))
        except RuntimeError as error:
            raise ValueError(f"{path} belongs to other layers or widths: {error}") from error
