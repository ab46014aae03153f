"""`hf-distill evaluate` hands its options on, shows the table and says where the files lie."""

from __future__ import annotations

import json
import shutil

from analysed_run import parity_run, text_run


def test_the_table_is_shown_and_lies_in_the_runs_folder(hf_distill, tmp_path):
    text_run(tmp_path / "run", "masked_lm", steps=(10,), seeds=(0,))
    shown = hf_distill("evaluate", tmp_path / "run", "--batch-size", 2, "-b", 3, "--length", 12, "--repeats", 2)
    assert shown.code == 0, shown.err
    assert any(line.startswith("one_shot 1 ") for line in shown.lines)
    assert "latency, 2 × 12 tokens" in " ".join(shown.lines)
    for name in ("evaluation.json", "evaluation.csv", "evaluation.md"):
        assert f"{tmp_path}/run/{name}" in shown.lines
        assert (tmp_path / "run" / name).is_file()
    settings = json.loads((tmp_path / "run" / "evaluation.json").read_text())["settings"]
    assert settings == {"batch_sizes": [2, 3], "length": 12, "repeats": 2, "warmup": 3}
    assert not (tmp_path / "run" / "report.html").exists(), "there is no record to report"


def test_a_baseline_is_a_row(hf_distill, tmp_path):
    parity_run(tmp_path / "run", seeds=(0,))
    shutil.copytree(tmp_path / "run/teacher/checkpoint-10", tmp_path / "other")
    shown = hf_distill("evaluate", tmp_path / "run", "--baseline", tmp_path / "other", "--repeats", 1)
    assert shown.code == 0, shown.err
    assert any(line.startswith("other ") for line in shown.lines)


def test_lm_eval_of_a_classifier_is_an_error_before_anything_is_measured(hf_distill, tmp_path):
    parity_run(tmp_path / "run", seeds=(0,))
    shown = hf_distill("evaluate", tmp_path / "run", "--lm-eval", "hellaswag, arc_easy")
    assert shown.code == 2
    assert "--lm-eval hellaswag,arc_easy: these tasks are for causal language models" in shown.err
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_a_folder_without_a_run_is_an_error_without_a_traceback(hf_distill, tmp_path):
    shown = hf_distill("evaluate", tmp_path)
    assert shown.code == 2
    assert "holds no run" in shown.err
    assert "Traceback" not in shown.err
