"""SIGTERM, with which schedulers announce that a job has to go: a checkpoint, then exit code 143."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM
"""Of a process that SIGTERM has ended, by the habit of shells and schedulers."""


class Preempted(SystemExit):
    """SIGTERM ended training after a checkpoint; a process that does not catch it ends with exit code 143."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_CODE)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Preemption:
    """Takes note of SIGTERM while training runs, in the main thread; elsewhere it does nothing.

    Further signals change nothing: launchers and schedulers send several.

    Args:
        enabled: Whether a checkpoint could be resumed from.

    Attributes:
        requested: Whether SIGTERM has come.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.requested = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Preemption:
        self.requested = False
        if self.enabled and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)
            self._installed = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
