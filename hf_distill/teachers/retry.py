"""Another try after a passing failure of the network: exponential back-off with jitter, `Retry-After` honoured."""

from __future__ import annotations

import errno
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class HubUnavailable(ConnectionError):
    """The Hub did not answer, refused for now, or the connection broke: the same request may succeed later.

    Args:
        message: What happened, without anything of the request.
        reason: The same in a few words: "it answered 503".
        answered: Whether the Hub answered at all.
        retry_after: Seconds that the Hub asked to wait.
    """

    def __init__(
        self, message: str, *, reason: str = "no answer", answered: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.answered = answered
        self.retry_after = retry_after


class DiskFull(OSError):
    """There is no room for a download; it goes on once there is."""


class RevisionUnavailable(ConnectionError):
    """A revision that training needs now cannot be had; training stops with a checkpoint and leaves none out."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How often to try, and how long to wait between two tries.

    The n-th wait is `first_seconds · 2ⁿ`, at most `longest_seconds`, times a random number from 1 - jitter to 1, or
    what the Hub asked for where that is longer.

    Args:
        tries: In all; None for as many as it takes.
        first_seconds: Length of the first wait.
        longest_seconds: Length that no wait exceeds, but for one that the Hub asked for.
        jitter: Share of a wait that is left to chance, so that many clients do not come back at once.
    """

    tries: int | None = 5
    first_seconds: float = 1.0
    longest_seconds: float = 120.0
    jitter: float = 0.5

    def seconds(self, failures: int, *, chance: float, retry_after: float | None = None) -> float:
        """Return the wait after so many failures; `chance` lies in [0, 1]."""
        # Beyond 2**30 nothing changes but the size of the number.
        planned = min(self.first_seconds * 2.0 ** min(failures - 1, 30), self.longest_seconds)
        return max(planned * (1 - self.jitter * chance), retry_after or 0.0)


def retried(
    work: Callable[[], Answer], *, what: str, backoff: Backoff, stopped: threading.Event | None = None
) -> Answer:
    """Return what `work` returns, trying again after a HubUnavailable or DiskFull; each failure is logged.

    Args:
        work: Does one try; it may be called any number of times.
        what: What is tried, for the log: "the download of step100".
        backoff: When to try again.
        stopped: Ends the waiting when set.

    Raises:
        HubUnavailable, DiskFull: The last try failed too, or `stopped` was set.
        Exception: Whatever else `work` raises, at once.
    """
    stopped = stopped if stopped is not None else threading.Event()
    # Its own generator: training's random numbers are part of the run.
    chance = random.Random()
    failures = 0
    while True:
        try:
            return work()
        except (HubUnavailable, DiskFull) as error:
            failures += 1
            if backoff.tries is not None and failures >= backoff.tries:
                raise
            asked = error.retry_after if isinstance(error, HubUnavailable) else None
            seconds = backoff.seconds(failures, chance=chance.random(), retry_after=asked)
            of = f" of {backoff.tries}" if backoff.tries is not None else ""
            logger.warning("Try %d%s of %s failed; the next one in %.1f s. %s", failures, of, what, seconds, error)
            if stopped.wait(seconds):
                raise


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written for lack of room: the disk, the quota or the largest size allowed."""
    return error.errno in _DISK_FULL
