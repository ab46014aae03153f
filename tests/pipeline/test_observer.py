from __future__ import annotations

from pathlib import Path

import pytest
from teaching_recipes import teaching_recipe
from transformers import AutoModelForSequenceClassification

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.observer import Observer, parameters_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.teachers import EnsembleTeacher, PrunedMixTeacher


@pytest.fixture
def observer(finished, tmp_path) -> Observer:
    recipe = teaching_recipe(tmp_path / "run", "takd", teacher={"source": str(finished.root / "teacher")})
    task, workspace = task_of(recipe), Workspace(Path(recipe.output_dir))
    return Observer(build_trainer(cells_of(recipe)[0], recipe, task, None, workspace, labels_only=True), "data")


def test_a_sequence_is_scored_timed_and_searched_for_its_sharp_drop(observer, finished, tmp_path):
    seen = observer.look(TeacherSequence(finished.root / "teacher"), tmp_path)
    for key in ("parameters", "chosen", "scores"):
        assert seen[key] == finished.record.teacher[key], key
    assert seen["final_metrics"]["accuracy"] == seen["scores"][-1]["accuracy"] == 1.0
    assert seen["latency"]["examples"] == 1
    assert (tmp_path / "teacher_scores.json").is_file()


def test_what_is_made_of_several_has_their_parameters_and_no_drop(observer, finished, tmp_path):
    folder = finished.root / "teacher" / "checkpoint-160"
    members = [LiveTeacher(AutoModelForSequenceClassification.from_pretrained(folder)) for _ in range(2)]
    source = EnsembleTeacher(members)
    seen = observer.look(source, tmp_path)
    assert seen["parameters"] == parameters_of(source) == 2 * finished.record.teacher["parameters"]
    assert seen["final_metrics"]["loss"] == pytest.approx(finished.record.teacher["scores"][-1]["loss"], rel=1e-5)
    assert not {"chosen", "latency", "transition_problem"} & set(seen)


def test_a_pruned_mix_is_narrowed_around_the_transition_as_its_teacher_is(observer, finished, tmp_path):
    spec = {"revisions": str(finished.root / "teacher"), "near_transition": 1}
    source = PrunedMixTeacher(TeacherSequence(spec), rate=0.05)
    seen = observer.look(source, tmp_path)
    assert [revision.name for revision in source.revisions] == [seen["chosen"], "checkpoint-160"]
    assert [revision.name for revision in source.members[0].revisions] == [seen["chosen"], "checkpoint-160"]
