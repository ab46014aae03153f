"""The check of the formulas runs on two processes and compares what it told with what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import ROOT, run_two_ranks


@pytest.mark.multiprocess
@pytest.mark.slow
def test_steps_are_predicted_and_measured_in_one_run(tmp_path: Path) -> None:
    script, figures = ROOT / "scripts" / "scaling_check.py", tmp_path / "figures.json"
    shown = run_two_ranks(script, "--steps", "1", "--rounds", "1", "--batch-size", "1", "--output", figures)
    assert shown.count("round 1: ") == 1
    (found,) = json.loads(figures.read_text(encoding="utf-8"))["rounds"]
    assert all(value > 0 for value in found.values())
    for number in ("1 process", "2 processes"):
        told, taken = found[f"{number}: predicted ms"], found[f"{number}: measured ms"]
        assert found[f"{number}: measured ÷ predicted"] == pytest.approx(taken / told)
    sending = found["2 processes: of which sending ms"]
    assert 0 < sending < found["2 processes: predicted ms"]
