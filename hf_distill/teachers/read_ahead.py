"""Reading the next revision's tensors into CPU memory while the current one teaches."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from hf_distill.teachers.fetcher import Fetcher
from hf_distill.teachers.retry import DiskFull, HubUnavailable
from hf_distill.teachers.revisions import Revision, check_unchanged
from hf_distill.teachers.weight_files import weight_files, weights_format


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
        self._keep_tensors = keep_tensors
        self._reading: _Reading | None = None

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

    def take(self, revision: Revision) -> dict[str, Tensor]:
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
        return _Reading(revision, self._fetcher, in_background=in_background, keep_tensors=self._keep_tensors)

    def _drop(self) -> None:
        if self._reading is not None:
            self._reading.stop()
            self._reading = None


class _Reading:
    """One revision on its way into memory."""

    def __init__(self, revision: Revision, fetcher: Fetcher, *, in_background: bool, keep_tensors: bool) -> None:
        self.revision = revision
        self._keep_tensors = keep_tensors
        self.in_background = in_background
        self._fetcher = fetcher
        self._stopped = threading.Event()
        self._copying = threading.Lock()
        self._tensors: dict[str, Tensor] | None = None
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

    def result(self) -> dict[str, Tensor]:
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
            self._tensors = self._read()
        except BaseException as error:
            self._error = error

    def _read(self) -> dict[str, Tensor]:
        folder = self._fetcher.folder(self.revision, show_progress=not self.in_background, stopped=self._stopped)
        check_unchanged(self.revision)
        if not self._keep_tensors:
            return {}
        with self._copying:
            return read_tensors(folder, stopped=self._stopped)


def _end_copying(stopped: threading.Event, copying: threading.Lock) -> None:
    stopped.set()
    copying.acquire()


def read_tensors(folder: str | Path, *, stopped: threading.Event | None = None) -> dict[str, Tensor]:
    """Return all tensors of a model folder by name, in CPU memory, shards merged.

    Args:
        folder: Folder with safetensors, or with pickled weights where it has none.
        stopped: Ends the reading early when set; the result is then incomplete.

    Raises:
        ValueError: The folder holds no weights, or two shards hold a tensor of one name.
    """
    folder = Path(folder)
    pickled = weights_format(folder) == "pickle"
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if stopped is not None and stopped.is_set():
            break
        part = _read_pickled(path) if pickled else _read_safetensors(path, stopped)
        twice = sorted(set(part) & set(tensors))
        if twice:
            raise ValueError(f"{path.name} in {folder} holds {twice[0]} once more than the other shards")
        tensors.update(part)
    return tensors


def _read_safetensors(path: Path, stopped: threading.Event | None) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 (the handle is no mapping)
            if stopped is not None and stopped.is_set():
                break
            # A tensor of the file is a view of its memory map: without a copy, the swap would wait for the disk, and
            # a checkpoint rewritten meanwhile would change it. clone releases the GIL while it reads.
            tensors[name] = file.get_tensor(name).clone()
    return tensors


def _read_pickled(path: Path) -> dict[str, Tensor]:
    return dict(torch.load(path, map_location="cpu", weights_only=True))
