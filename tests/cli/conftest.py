"""The command line in this process, with what it changes for the whole process put back afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from transformers.utils import logging as transformers_logging

from hf_distill.cli.main import main


class Shown(NamedTuple):
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return [" ".join(line.split()) for line in self.out.splitlines()]


@pytest.fixture
def hf_distill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Shown]]:
    """Run `hf-distill` with these arguments on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()

    def run(*arguments: object) -> Shown:
        monkeypatch.setattr(sys, "argv", ["hf-distill", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Shown(code, *capsys.readouterr())

    yield run
    transformers_logging.set_verbosity(verbosity)
    if bars:
        transformers_logging.enable_progress_bar()
