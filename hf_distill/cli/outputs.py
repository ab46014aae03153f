"""Where a command writes: refused before the work where it cannot be."""

from __future__ import annotations

from pathlib import Path


def check_output(place: Path, *, folder: bool) -> None:
    """Refuse a place for `--output` that something else takes.

    Args:
        place: What was given.
        folder: Whether it is to be a folder; else a file.

    Raises:
        ValueError: A file stands where a folder is needed, or the other way round.
    """
    if not folder and place.is_dir():
        raise ValueError(f"--output {place} is a folder; give a file in it")
    for above in (place, *place.parents) if folder else place.parents:
        if above.exists() and not above.is_dir():
            raise ValueError(f"--output {place}: {above} is a file; give another place")
