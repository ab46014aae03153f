"""A rank that hangs: after a time-out every rank writes where it is, and the run ends saying which one is behind."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from hf_distill.atomic import atomic_write_json

logger = logging.getLogger(__name__)

EXIT_CODE = os.EX_TEMPFAIL
"""Of every rank of a run that hangs: 75, a failure that may not come again."""

FOLDER = "hang"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Where a rank is.

    Attributes:
        rank: Its number.
        host: Its machine.
        process: Its id there.
        step: Optimizer steps done.
        place: What it was about to do, as a number that grows within a step.
        doing: The same for people.
        seconds: Since then.
        stack: Of the main thread, outermost call first.
    """

    rank: int
    host: str
    process: int
    step: int
    place: int
    doing: str
    seconds: float
    stack: list[str]


class HangWatch:
    """Watches from a thread of its own whether training goes on.

    It waits a little less long than collectives do (`ddp_timeout`), so that the ranks that wait are still there to
    say where. Python's own watchdog stands behind it: where no Python code can run any more it still writes the stacks
    and ends the process.

    Args:
        folder: Where the ranks write, shared by all of them.
        rank: Of this process.
        ranks: How many there are.
        limit: Seconds without a mark that are too many.
    """

    def __init__(self, folder: str | Path, *, rank: int, ranks: int, limit: float) -> None:
        self._folder = Path(folder) / FOLDER
        self._rank, self._ranks, self._limit = rank, ranks, limit
        self._main = threading.main_thread().ident
        self._at: tuple[float, int, int, str] = (time.monotonic(), 0, 0, "begin")
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def mark(self, step: int, doing: str, *, first: bool = False) -> None:
        """Say what this rank is about to do.

        Args:
            step: Optimizer steps done.
            doing: For people.
            first: Whether a step begins.
        """
        place = 0 if first else self._at[2] + 1
        self._at = (time.monotonic(), step, place, doing)

    def __enter__(self) -> HangWatch:
        if self._ranks > 1:
            self._ended.clear()
            self.mark(0, "begin", first=True)
            report = self._folder / f"rank-{self._rank}.json"
            report.unlink(missing_ok=True)
            self._thread = threading.Thread(target=self._watch, name="hang watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        pause = self._limit / 10
        while not self._ended.wait(pause):
            # Armed anew as long as this thread can run.
            faulthandler.dump_traceback_later(2 * self._limit, exit=True)
            if time.monotonic() - self._at[0] > self._limit:
                self._end()

    def _end(self) -> None:
        """Write where this rank is, give the others the time to do so, say who is behind, and end the process."""
        since, step, place, doing = self._at
        stack = traceback.format_stack(sys._current_frames()[self._main]) if self._main is not None else []
        own = Report(
            rank=self._rank,
            host=socket.gethostname(),
            process=os.getpid(),
            step=step,
            place=place,
            doing=doing,
            seconds=time.monotonic() - since,
            stack=stack,
        )
        atomic_write_json(self._folder / f"rank-{self._rank}.json", asdict(own))
        self._ended.wait(self._limit / 5)
        if not self._ended.is_set():
            logger.error("%s", verdict(read_reports(self._folder), ranks=self._ranks, folder=self._folder))
            for handler in logging.getLogger().handlers:
                handler.flush()
            os._exit(EXIT_CODE)


def read_reports(folder: Path) -> dict[int, Report]:
    """Return what ranks have written, by rank."""
    found = [Report(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("rank-*.json")]
    return {report.rank: report for report in found}


def verdict(reports: Mapping[int, Report], *, ranks: int, folder: Path) -> str:
    """Return which rank holds up the others and where it is, for people.

    Args:
        reports: By rank.
        ranks: How many ranks there are.
        folder: Where the reports lie.
    """
    silent = [rank for rank in range(ranks) if rank not in reports]
    least = min((report.step, report.place) for report in reports.values())
    behind = [report for report in reports.values() if (report.step, report.place) == least]
    own = [report for report in behind if not _waits_for_others(report.stack)]
    if silent:
        text = f"rank {', '.join(map(str, silent))} of {ranks} says nothing: ended, or stuck outside of Python"
    elif len(behind) == ranks and not own:
        text = f"all {ranks} ranks wait for each other (step {least[0]}, {behind[0].doing}): suspect the network"
    else:
        text = " and ".join(
            f"rank {one.rank} of {ranks} (process {one.process} on {one.host}) has been at step {one.step}, "
            f"{one.doing}, for {one.seconds:.0f} s, in{_innermost(one.stack)}"
            for one in own or behind
        )
    return f"training hangs: {text}. Each rank's stack is in {folder}. Start the same command again to go on"


def _waits_for_others(stack: list[str]) -> bool:
    return any(f"{os.sep}torch{os.sep}distributed{os.sep}" in frame for frame in stack)


def _innermost(stack: list[str]) -> str:
    return " " + " ".join(stack[-1].split()) if stack else " an unknown place"


def limit_of(seconds: float) -> float:
    """Return how long to wait where collectives wait `seconds`."""
    return 0.9 * seconds
