"""The numbers of a run's models are those of the probe on these models."""

from __future__ import annotations

import json

import pytest
import torch
from analysed_run import parity_run, text_run
from quickstart_run import quickstart_with_teacher

from hf_distill.analysis.parity_influence import logit_difference, parity_influence_info, uniform_signs
from hf_distill.pipeline.analyses.influence import analyze_influence
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.tasks import ParityMlpForSequenceClassification


@pytest.mark.slow
def test_each_model_is_measured_on_its_own_weights(tmp_path):
    run = parity_run(tmp_path / "run")
    answer = analyze_influence(run, examples=300, order=2)
    assert [row[0] for row in answer.rows][:3] == ["checkpoint-10", "checkpoint-20", "checkpoint-30"]
    assert len(answer.rows) == 7
    kept = json.loads(answer.files[0].read_text())["models"]
    for number, folder in ((1, "teacher/checkpoint-20"), (5, "students/one_shot/seed-0")):
        model = ParityMlpForSequenceClassification.from_pretrained(tmp_path / "run" / folder).eval()
        info = parity_influence_info(logit_difference(model), uniform_signs(300, 8), [0, 1, 2], order=2)
        assert kept[number]["influence"] == pytest.approx(info.influence)
        assert kept[number]["influence_ratio"] == pytest.approx(info.influence_ratio)
        assert answer.rows[number][1:] == pytest.approx(
            (
                info.accuracy,
                info.influence_inside,
                info.influence_outside,
                info.influence_ratio,
                info.correlation_ratio,
            )
        )
    assert kept[5]["kind"] == "student"
    assert [degree["degree"] for degree in kept[0]["degrees"]] == [1, 2]


@pytest.mark.slow
def test_picture_is_drawn_for_the_teacher_only(tmp_path):
    run = parity_run(tmp_path / "run")
    names = [file.name for file in analyze_influence(run, which="teacher", examples=50).files]
    assert names == ["influence.json", "influence.png"]
    students = analyze_influence(run, which="students", examples=50)
    assert [file.name for file in students.files] == ["influence.json"]
    assert len(students.rows) == 4


def test_perfect_model_hears_its_support_and_nothing_else(tmp_path):
    run = parity_run(tmp_path / "run", steps=(10,), students=())
    folder = tmp_path / "run" / "teacher" / "checkpoint-10"
    model = ParityMlpForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.layers[0][0].weight[:, 3:] = 0
        model.layers[0][0].bias.zero_()
    model.save_pretrained(folder)
    (row,) = analyze_influence(run, examples=200).rows
    assert row[3] == 0.0
    assert row[4] == float("inf")


def test_run_of_another_task_is_refused(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,), students=())
    with pytest.raises(ValueError, match="question for the task parity; this run's is 'masked_lm'"):
        analyze_influence(run)


@pytest.mark.slow
def test_teacher_hears_its_support_from_the_transition_on(tmp_path_factory):
    # What tells a usable checkpoint: support over rest at least 3 in the transition, at least 20 from 90 % on.
    recipe = quickstart_with_teacher(tmp_path_factory)
    rows = analyze_influence(FinishedRun(recipe), which="teacher", examples=1000).rows
    transition = [row for row in rows if 0.58 <= row[1] < 0.9]
    learnt = [row for row in rows if row[1] >= 0.9]
    assert transition, f"no checkpoint in the transition: {rows[-3:]}"
    assert learnt, f"the teacher did not learn: {rows[-3:]}"
    assert min(row[4] for row in transition) >= 3
    assert min(row[4] for row in learnt) >= 20
    assert max(row[4] for row in rows[:10]) < 6
