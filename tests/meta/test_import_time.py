"""The package and its command line start without the heavy libraries, and fast."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "transformers", "datasets", "accelerate", "evaluate", "peft", "matplotlib", "scipy", "sklearn"]
LONGEST_HELP_S = 0.6
LOADED = f"import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
HELP = """
import sys
from hf_distill.cli.main import main
sys.argv = ["hf-distill", *sys.argv[1:], "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("--- loaded:")
"""


def run_python(*arguments: str) -> str:
    """The output of a fresh interpreter, started in the checkout."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_stays_light() -> None:
    assert run_python("-c", f"import hf_distill; {LOADED}").split() == []


@pytest.mark.parametrize("command", [[], ["run"]], ids=["hf-distill", "hf-distill run"])
def test_help_loads_no_heavy_library(command: list[str]) -> None:
    shown, loaded = run_python("-c", HELP + LOADED, *command).split("--- loaded:")
    assert "Usage" in shown
    assert loaded.split() == []


def test_help_answers_at_once() -> None:
    run_python("-m", "hf_distill", "--help")  # writes the bytecode that an installed package has
    times = []
    for _ in range(5):
        # Of the processor, which other work on the machine does not lengthen much; the best run counts.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_python("-m", "hf_distill", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if times[-1] < LONGEST_HELP_S:
            break
    assert min(times) < LONGEST_HELP_S, f"seconds of each run: {[round(seconds, 2) for seconds in times]}"
