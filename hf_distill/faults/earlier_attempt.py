"""A checkpoint's folder that an earlier attempt has left: its files must not be taken for parts of the new one."""

from __future__ import annotations

import shutil
from pathlib import Path

from accelerate import Accelerator

from hf_distill.teachers.checkpoint_files import TRAINER_STATE


def remove_earlier(folder: Path, accelerator: Accelerator, *, writes: bool) -> None:
    """Remove what lies where a checkpoint is about to be written, before any process writes.

    A run that was killed while it saved comes to the same step again; so does one that goes on from an older
    checkpoint, and there the folder is whole: overwritten file by file, it would look whole all the time.

    Args:
        folder: Of the checkpoint.
        accelerator: Of the training; all processes have to call this.
        writes: Whether this process writes the student.
    """
    if writes and folder.exists():
        # What says that the others are whole goes first.
        (folder / TRAINER_STATE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    accelerator.wait_for_everyone()
