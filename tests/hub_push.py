"""Publishing and pushing as other processes run them: with short waits, and with every text that was shown kept."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any, NamedTuple

from hf_distill.hub.hub_writer import HubWriter
from hf_distill.teachers.retry import Backoff

QUICK = Backoff(tries=8, first_seconds=0.01, longest_seconds=0.05)


class Shown(NamedTuple):
    """What a command returned or raised, and everything it logged and printed."""

    result: Any
    error: str | None
    text: str


def publish(run_dir: Path, repo_id: str, *, token: str | None = None, tries: int = 8, **options: Any) -> Shown:
    """Run `publish_teacher` with short waits."""
    from hf_distill.hub.publish import publish_teacher

    writer = HubWriter(repo_id, token=token, backoff=_quick(tries))
    return shown(lambda: publish_teacher(run_dir, writer, **options))


def push(run_dir: Path, repo_id: str, *, token: str | None = None, tries: int = 8, **options: Any) -> Shown:
    """Run `push_student` with short waits."""
    from hf_distill.hub.push import push_student

    writer = HubWriter(repo_id, token=token, backoff=_quick(tries))
    return shown(lambda: push_student(run_dir, writer, **options))


def push_finetuned(run_dir: Path, repo_id: str, block: str, *, tries: int = 8, **options: Any) -> Shown:
    """Run `push_finetuned` with short waits."""
    from hf_distill.hub.push import push_finetuned

    writer = HubWriter(repo_id, backoff=_quick(tries))
    return shown(lambda: push_finetuned(run_dir, writer, block, **options))


def _quick(tries: int) -> Backoff:
    return Backoff(tries=tries, first_seconds=0.01, longest_seconds=0.05)


def shown(work: Any) -> Shown:
    """Run something at the most talkative log level and keep what it said."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    result, error = None, None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            result = work()
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return Shown(result, error, said.getvalue())
