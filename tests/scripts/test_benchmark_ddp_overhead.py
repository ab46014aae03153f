"""The benchmark of several processes runs on several processes, and compares loops of one loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import ROOT, run_two_ranks


@pytest.mark.multiprocess
@pytest.mark.slow
def test_all_loops_run_on_two_ranks_and_one_of_them_prints(tmp_path: Path) -> None:
    script, figures = ROOT / "scripts" / "benchmark_ddp_overhead.py", tmp_path / "figures.json"
    shown = run_two_ranks(script, "--steps", "1", "--rounds", "1", "--batch-size", "1", "--output", figures)
    assert shown.count("trainer ÷ this") == 1
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["processes"] == 2
    assert {name: len(seconds) for name, seconds in found["seconds"].items()} == {
        "bare": 1,
        "counted": 1,
        "trainer": 1,
    }
    assert all(seconds[0] > 0 for seconds in found["seconds"].values())
