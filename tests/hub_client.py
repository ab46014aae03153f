"""The real Hub client in a process of its own: endpoint and offline mode are read when it is imported."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Caller = Callable[..., Any]


@contextmanager
def hub_client(url: str, home: Path, *, token: str | None = None, offline: bool = False) -> Iterator[Caller]:
    """Give a function that runs another one (of an importable module) in a process whose Hub is at `url`.

    Args:
        url: Address of the server, without a final slash.
        home: Folder for the client's cache.
        token: What the client finds in its environment.
        offline: Start it with HF_HUB_OFFLINE=1.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", url)
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", str(int(offline)))
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        if token:
            patch.setenv("HF_TOKEN", token)
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(int).result()
    try:
        yield lambda work, *args, **options: pool.submit(work, *args, **options).result()
    finally:
        pool.shutdown()


def resolve(spec: Any, *, tries: int = 3, **options: Any) -> list[Any]:
    """Run `resolve_revisions`, without long waits between its tries."""
    from hf_distill.teachers.retry import Backoff
    from hf_distill.teachers.revisions import resolve_revisions

    return resolve_revisions(spec, backoff=Backoff(tries=tries, first_seconds=0.01), **options)


def folder(revision: Any, *, tries: int = 3, **options: Any) -> Path:
    """Run `folder_of`, without long waits between its tries."""
    from hf_distill.teachers.retry import Backoff
    from hf_distill.teachers.revisions import folder_of

    return folder_of(revision, backoff=Backoff(tries=tries, first_seconds=0.01), **options)


def api(method: str, *args: Any, **options: Any) -> Any:
    """Call one method of the client's HfApi."""
    from huggingface_hub import HfApi

    return getattr(HfApi(), method)(*args, **options)
