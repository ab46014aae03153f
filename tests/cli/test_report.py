from __future__ import annotations

import json

import pytest
from sample_records import sample_record


@pytest.mark.slow
def test_the_page_of_an_unfinished_run_is_written(hf_distill, tmp_path):
    record = sample_record(finished=None)
    record.runs = record.runs[:1]
    record.save(tmp_path)
    shown = hf_distill("report", tmp_path)
    assert shown.code == 0, shown.err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "parity-quickstart" in page
    assert shown.out.strip() == str(tmp_path / "report.html")


def test_a_folder_without_a_run_is_an_error_without_a_traceback(hf_distill, tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        shown = hf_distill("report", place)
        assert shown.code == 2
        assert "`hf-distill run` writes run_record.json" in shown.err
        assert "Traceback" not in shown.err
    assert not list(tmp_path.iterdir())


def test_an_output_for_a_single_run_is_not_passed_over(hf_distill, tmp_path):
    sample_record().save(tmp_path)
    shown = hf_distill("report", tmp_path, "--output", tmp_path / "out")
    assert shown.code == 2
    assert "the page of a single run lies in the run" in shown.err
    assert not (tmp_path / "report.html").exists()


def test_a_comparison_is_not_begun_for_a_place_that_is_taken(hf_distill, tmp_path):
    (tmp_path / "file").write_text("a file")
    shown = hf_distill("report", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "file")
    assert shown.code == 2
    assert "file is a file; give another place" in shown.err


def test_a_broken_record_is_named(hf_distill, tmp_path):
    (tmp_path / "run_record.json").write_text(json.dumps({"schema": 1})[:-3])
    shown = hf_distill("report", tmp_path)
    assert shown.code == 2
    assert "run_record.json is not readable JSON" in shown.err


def test_several_runs_are_compared_on_one_page(hf_distill, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        sample_record(name=name).save(tmp_path / name)
    shown = hf_distill("report", tmp_path / "first", tmp_path / "second", "-o", tmp_path / "out", "--title", "Both")
    assert shown.code == 0, shown.err
    assert shown.out.strip() == str(tmp_path / "out" / "comparison.html")
    assert "<h1>Both</h1>" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert not (tmp_path / "first" / "report.html").exists()
