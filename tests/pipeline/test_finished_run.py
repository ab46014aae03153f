"""A run is opened where it lies, and each of its models is what its folder holds."""

from __future__ import annotations

import shutil

import pytest
import torch
from analysed_run import parity_run, text_run
from builders import flat_weights

from hf_distill.evaluation.candidates import candidates_of, teachers_of
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.tasks import ParityMlpForSequenceClassification


def test_every_revision_and_student_is_its_own_folder_s_model(tmp_path):
    run = parity_run(tmp_path / "run")
    found = {m.name: flat_weights(m.model).clone() for m in run.models("all", run.revisions())}
    assert list(found) == [
        "checkpoint-10", "checkpoint-20", "checkpoint-30",
        "labels, seed 0", "labels, seed 1", "one_shot, seed 0", "one_shot, seed 1",
    ]  # fmt: skip
    folders = {"checkpoint-20": "teacher/checkpoint-20", "one_shot, seed 1": "students/one_shot/seed-1"}
    for name, folder in folders.items():
        kept = ParityMlpForSequenceClassification.from_pretrained(tmp_path / "run" / folder)
        assert torch.equal(found[name], flat_weights(kept))
    assert len({tuple(weights.tolist()) for weights in found.values()}) == 7


def test_models_say_which_they_are_and_are_in_eval_mode(tmp_path):
    run = parity_run(tmp_path / "run")
    for model in run.models("all", [0, 2]):
        assert not model.model.training
        assert (model.curriculum is None) == (model.step is not None)
    assert [m.step for m in run.models("teacher", [0, 2])] == [10, 30]
    assert [(m.curriculum, m.seed) for m in run.models("students", [0])] == [
        ("labels", 0), ("labels", 1), ("one_shot", 0), ("one_shot", 1),
    ]  # fmt: skip


def test_run_that_was_moved_is_opened_where_it_is(tmp_path):
    parity_run(tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "new")
    run = FinishedRun.open(tmp_path / "new")
    assert run.workspace.root == tmp_path / "new"
    assert len(list(run.models("all", run.revisions()))) == 7


def test_run_is_found_by_its_recipe_too(tmp_path):
    parity_run(tmp_path / "run")
    recipe = shutil.copy(tmp_path / "run" / "recipe.yaml", tmp_path / "mine.yaml")
    run = FinishedRun.open(recipe)
    assert len(run.student_cells()) == 4


def test_unfinished_students_are_left_out(tmp_path):
    run = parity_run(tmp_path / "run")
    (run.workspace.student("labels", 1) / "student_run.json").unlink()
    assert [cell.seed for cell in run.student_cells()] == [0, 0, 1]


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        FinishedRun.open(tmp_path)


def test_recipe_that_was_changed_since_is_refused(tmp_path):
    parity_run(tmp_path / "run")
    recipe = shutil.copy(tmp_path / "run" / "recipe.yaml", tmp_path / "mine.yaml")
    with pytest.raises(ValueError, match="another recipe"):
        FinishedRun.open(recipe, ["task.d=9"])


def test_revisions_are_chosen_by_pattern_and_unknown_ones_named(tmp_path):
    run = parity_run(tmp_path / "run")
    assert run.revisions() == [0, 1, 2]
    assert run.revisions(["checkpoint-3*", "checkpoint-10"]) == [0, 2]
    with pytest.raises(ValueError, match=r"matches 'step\*'; there are checkpoint-10, "):
        run.revisions(["checkpoint-10", "step*"])


def test_run_without_a_teacher_has_no_revisions(tmp_path):
    run = parity_run(tmp_path / "run", steps=())
    assert run.teacher is None
    assert len(list(run.models("all", []))) == 4
    with pytest.raises(ValueError, match=r"has no teacher to look at; `hf-distill run` its recipe first"):
        run.revisions()
    run.recipe.teacher = None
    with pytest.raises(ValueError, match="has no teacher to look at: its recipe names none"):
        run.revisions()


@pytest.mark.parametrize("content", [None, b"xx"], ids=["missing", "cut off"])
def test_a_student_whose_weights_are_not_whole_is_named(tmp_path, content):
    run = parity_run(tmp_path / "run", steps=(10,))
    weights = run.workspace.student("labels", 0) / "model.safetensors"
    weights.unlink() if content is None else weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels/seed-0 is no whole student: .*Remove the folder and run the recipe"):
        next(run.students())
    with pytest.raises(ValueError, match="is no whole student"):
        candidates_of(run, teachers_of(run), [])


def test_batches_hold_the_first_examples_in_order(tmp_path):
    run = parity_run(tmp_path / "run")
    batches = run.batches("validation", examples=20)
    assert [len(batch["labels"]) for batch in batches] == [16, 4]
    whole = run.batches("validation")
    assert sum(len(batch["labels"]) for batch in whole) == 40
    assert torch.equal(batches[1]["inputs"], whole[1]["inputs"][:4])
    assert [len(batch["labels"]) for batch in run.batches("train", examples=6)] == [4, 2]
    with pytest.raises(ValueError, match="at least 1"):
        run.batches("validation", examples=0)


def test_rows_of_a_causal_model_are_shifted_once(tmp_path):
    run = text_run(tmp_path / "run", "causal_lm", steps=(10,), students=())
    (batch, *_) = run.batches("validation")
    (model,) = run.models("teacher", [0])
    logits, labels = run.rows(model.model, batch)
    whole = model.model(input_ids=batch["input_ids"]).logits
    counted = batch["labels"][:, 1:] != -100
    assert torch.equal(labels, batch["labels"][:, 1:][counted])
    torch.testing.assert_close(logits, whole[:, :-1][counted], rtol=1e-4, atol=1e-5)
