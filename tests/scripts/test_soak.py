"""A training that is killed again and again, at moments that nobody chose, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def soaked(cycles: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "scripts/soak.py", "--cycles", str(cycles)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("cycles", [6, pytest.param(50, marks=pytest.mark.soak)])
def test_every_run_ends_with_the_weights_of_an_undisturbed_one(cycles):
    found = soaked(cycles)
    assert found["cycles"] == cycles
    assert found["SIGKILL"] >= cycles // 2
    assert found["runs that ended"] >= 1
