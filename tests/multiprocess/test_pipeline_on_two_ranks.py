"""A recipe on two processes: one choice of the revision, one record, one table on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import once_for_all, run_two_ranks
from tiny_recipes import parity_mapping

from hf_distill.pipeline.scoring import score_teacher
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord


def run_on_two_ranks(folder: Path) -> None:
    mapping = parity_mapping(folder / "run", compare={"two_shot": {"name": "two_shot", "steps": 10}})
    mapping["task"]["validation_examples"] = 200
    for training in (mapping["teacher"]["train"]["training"], mapping["training"]):
        training.update(per_device_train_batch_size=25, per_device_eval_batch_size=50)
        # A recipe says nothing of the device; two processes without a GPU must find each other all the same.
        del training["use_cpu"]
    Recipe.from_dict(mapping).save(folder / "tiny.yaml")
    (folder / "shown.txt").write_text(run_two_ranks("-m", "hf_distill", "run", folder / "tiny.yaml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = once_for_all(tmp_path_factory, "pipeline", run_on_two_ranks)
    return folder / "run", (folder / "shown.txt").read_text()


@pytest.mark.multiprocess
@pytest.mark.slow
def test_the_run_had_two_ranks_and_shows_one_table(run):
    folder, shown = run
    record = RunRecord.load(folder)
    assert record.environment["processes"] == 2
    assert record.runs[0].final_metrics["accuracy"] > 0.9
    assert shown.count("curriculum") == shown.count("record: ") == 1


@pytest.mark.multiprocess
@pytest.mark.slow
def test_scores_and_choice_are_those_over_all_held_out_examples(run):
    """Each rank scores its own shard; ranks that chose by it could distil from two revisions at once."""
    folder, _ = run
    record = RunRecord.load(folder)
    recipe = Recipe.load(folder / "recipe.yaml")
    (folder / "teacher_scores.json").unlink()
    alone = score_teacher(recipe)
    assert alone.chosen == record.teacher["chosen"]
    for ours, theirs in zip(record.teacher["scores"], alone.scores, strict=True):
        assert ours["accuracy"] == theirs["accuracy"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
