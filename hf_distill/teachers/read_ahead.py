"""Reading the next revision's tensors into CPU memory while the current one teaches."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from hf_distill.teachers.fetcher import Fetcher
from hf_distill.teachers.pieces import Piece, read_pieces
from hf_distill.teachers.retry import DiskFull, HubUnavailable
from hf_distill.teachers.revisions import Revision, check_unchanged
from hf_distill.teachers.weight_reading import read_tensors

Read: TypeAlias = Callable[..., dict[str, Any]]
"""Reads a folder until `stopped` is set; returns tensors, or pieces of them, by name."""


class ReadAhead:
    """Reads the next revision's tensors into CPU memory in one daemon thread, after downloading it where needed.

    The thread touches no global state of torch: neither random numbers nor default types. At most one revision is
    held, until it is taken.

    Args:
        fetcher: Gets a revision's folder; by default from the client's own cache, without a token.
        keep_tensors: Read them; False gets the files and no more, and `take` returns nothing.
    """

    def __init__(self, fetcher: Fetcher | None = None, *, keep_tensors: bool = True) -> None:
        self._fetcher = fetcher or Fetcher()
        self._read: Read | None = read_tensors if keep_tensors else None
        self._reading: _Reading | None = None

    def read_only(self, pieces: Mapping[str, Piece]) -> None:
        """Read no more than these pieces of each tensor from now on; `take` then returns them as they are stored."""
        self._drop()
        self._read = partial(read_pieces, pieces=pieces)

    def start(self, revision: Revision) -> None:
        """Begin to read a revision and drop what was read of another one; starting one twice does nothing more."""
        if self._reading is not None and self._reading.revision == revision:
            return
        self._drop()
        self._reading = self._begin(revision, in_background=True)

    def ready(self, revision: Revision) -> None:
        """Wait until a revision can be taken. One that was not started is read now.

        A download that failed in the background, perhaps long ago, is tried once more.

        Raises:
            ValueError: The revision changed since it was pinned, is not whole or is refused.
            HubUnavailable, DiskFull: It cannot be downloaded.
            Exception: Whatever else reading it raised in the background.
        """
        reading = self._reading
        if reading is None or reading.revision != revision:
            self._drop()
            reading = self._begin(revision, in_background=False)
        self._reading = None
        try:
            reading.result()
        except (HubUnavailable, DiskFull):
            if not reading.in_background:
                raise
            reading = self._begin(revision, in_background=False)
            reading.result()
        self._reading = reading

    def take(self, revision: Revision) -> dict[str, Any]:
        """Return the tensors of a revision by name and forget them here; waits until they are read.

        Raises:
            ValueError, HubUnavailable, DiskFull: As `ready`.
        """
        self.ready(revision)
        assert self._reading is not None
        reading, self._reading = self._reading, None
        return reading.result()

    def close(self) -> None:
        """Stop reading between two tensors; a download under way ends with the process."""
        self._drop()

    def _begin(self, revision: Revision, *, in_background: bool) -> _Reading:
        return _Reading(revision, self._fetcher, in_background=in_background, read=self._read)

    def _drop(self) -> None:
        if self._reading is not None:
            self._reading.stop()
            self._reading = None


class _Reading:
    """One revision on its way into memory."""

    def __init__(self, revision: Revision, fetcher: Fetcher, *, in_background: bool, read: Read | None) -> None:
        self.revision = revision
        self._read = read
        self.in_background = in_background
        self._fetcher = fetcher
        self._stopped = threading.Event()
        self._copying = threading.Lock()
        self._tensors: dict[str, Any] | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if in_background:
            # A daemon, so that no download delays the end of the process. But Python ends daemons by unwinding them,
            # and inside torch that aborts the whole process: at exit, the copy under way is waited for.
            self._thread = threading.Thread(target=self._run, name=f"read-ahead {revision.name}", daemon=True)
            weakref.finalize(self, _end_copying, self._stopped, self._copying)
            self._thread.start()
        else:
            self._run()

    def result(self) -> dict[str, Any]:
        """Wait for the tensors, or raise what reading them raised, with its traceback and cause."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._tensors is not None
        return self._tensors

    def stop(self) -> None:
        """Ask the thread to end after the tensor it reads, and drop what it has."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._tensors = self._get()
        except BaseException as error:
            self._error = error

    def _get(self) -> dict[str, Any]:
        folder = self._fetcher.folder(self.revision, show_progress=not self.in_background, stopped=self._stopped)
        check_unchanged(self.revision)
        if self._read is None:
            return {}
        with self._copying:
            return self._read(folder, stopped=self._stopped)


def _end_copying(stopped: threading.Event, copying: threading.Lock) -> None:
    stopped.set()
    copying.acquire()
