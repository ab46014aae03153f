"""A disk that is full while a checkpoint is written: the unfinished one goes, those before stay."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_TEXTS = ("No space left", "Disk quota exceeded", "File too large", "inline_container")
"""What safetensors and torch.save say, whose errors carry no number."""


@contextmanager
def unfinished_goes(folder: Path, *, writes: bool) -> Iterator[None]:
    """Remove a checkpoint that cannot be finished for want of space, and say from which one to go on.

    Args:
        folder: The checkpoint.
        writes: Whether this process writes it.

    Raises:
        OSError: The disk is full.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        if writes:
            shutil.rmtree(folder, ignore_errors=True)
        last = find_last_whole_checkpoint(folder.parent)
        before = f"{last.name} is whole; make room and start the same command again" if last else "there is none yet"
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: {folder.name} could not be written{' and was removed' if writes else ''} ({error}). "
            f"The newest checkpoint before: {before}",
            str(folder.parent),
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether an error means that a file cannot grow, whichever library raised it."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return isinstance(error, (SafetensorError, RuntimeError)) and any(text in str(error) for text in FULL_TEXTS)
