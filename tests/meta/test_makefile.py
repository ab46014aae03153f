"""What README and CI call exists in the Makefile, and CI runs the very test command that the README gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
NEEDED = {"help", "quickstart", "test", "test-fast", "check"}


def commands_in(name: str) -> set[str]:
    """The make targets that a page of the project names in code: `make NAME`, in line or in a block."""
    path = ROOT / name
    if not path.is_file():
        pytest.skip(f"there is no {name} yet")
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    code = "\n".join([*blocks, *inline])
    return set(re.findall(r"^\s*(?:\$ )?make(?: [A-Z_]+=\S+)* ([a-z][a-z-]*)", code, flags=re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_page_names_no_target_that_does_not_exist(page: str) -> None:
    assert commands_in(page) <= TARGETS


def test_the_readme_gives_the_two_commands() -> None:
    assert {"quickstart", "test"} <= commands_in("README.md")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    if not script.is_file():
        pytest.skip("CI's script is not part of this copy")
    lines = [line.strip() for line in script.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert lines[-1] == "make test", "the last command must be the README's, so that pytest's summary closes the log"
    assert "make check" in lines
    assert os.access(script, os.X_OK), ".ci/run must be executable"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert shown.returncode == 0, shown.stderr
    listed = set(re.findall(r"^  make ([a-z-]+)", shown.stdout, flags=re.MULTILINE))
    assert listed == TARGETS
    assert listed >= NEEDED
