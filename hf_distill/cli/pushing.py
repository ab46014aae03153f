"""What the commands that push share: one progress bar, and failures of the network in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def said_plainly() -> Iterator[None]:
    """Leave out the client's own progress bars, and show an unreachable Hub as an error with what to do.

    Raises:
        ValueError: The Hub stayed out of reach.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    from hf_distill.teachers.retry import HubUnavailable

    were_shown = not are_progress_bars_disabled()
    if were_shown:
        disable_progress_bars()
    try:
        yield
    except HubUnavailable as error:
        raise ValueError(f"{error}. What is pushed is kept: run the same command again to go on") from None
    finally:
        if were_shown:
            enable_progress_bars()


@contextmanager
def revision_bar(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar that a function advances: name of what is done, how many are, and how many there are."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(what, total=None)
        yield lambda name, done, total: bar.update(task, completed=done, total=total, description=f"{what} {name}")
