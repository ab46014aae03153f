"""Figures on pages come from runs: students, fine-tunings and evaluations, each in its marked place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from evaluated import downstream_block, sample_evaluation
from sample_records import sample_record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("update_results", ROOT / "scripts" / "update_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_marked_places_are_filled_and_the_rest_is_left_alone(script, tmp_path, monkeypatch, capsys):
    record = sample_record(downstream=[downstream_block()])
    record.versions["torch"] = "2.13.0"
    record.save(tmp_path)
    sample_evaluation().save(tmp_path)
    marks = ("results: parity-quickstart", "results: parity-quickstart/cola", "evaluation: parity-quickstart")
    page = tmp_path / "page.md"
    page.write_text("before\n" + "".join(f"<!-- {mark} -->\nold\n<!-- end -->\nbetween\n" for mark in marks))
    monkeypatch.setattr(sys, "argv", ["update_results.py", str(page), "--runs", str(tmp_path)])
    script.main()
    text = page.read_text()
    assert "old" not in text
    assert text.count("between") == 3
    first, second, third = (part.partition("<!-- end -->")[0] for part in text.split("<!-- ")[1:6:2])
    assert "| two_shot | 3 | 0.9970" in first
    assert "Teacher: accuracy 0.9985." in first
    assert "| two_shot | 3 | 0.3100" in second
    assert "Teacher: matthews_correlation 0.4." in second
    assert "| org/middle |" in third
    assert capsys.readouterr().out.count("1 place(s)") == 3


def test_a_run_that_only_fine_tuned_has_no_table_of_students(script, tmp_path):
    sample_record(runs=[], downstream=[downstream_block()]).save(tmp_path)
    assert list(script.blocks_of(tmp_path)) == ["results: parity-quickstart/cola"]
