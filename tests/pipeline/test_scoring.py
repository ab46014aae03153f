from __future__ import annotations

import json
from pathlib import Path

import pytest
from teaching_recipes import teaching_recipe
from tiny_recipes import parity_mapping, untaught

from hf_distill.pipeline.scoring import score_teacher
from hf_distill.recipe.recipe import Recipe


def test_the_choice_is_the_one_of_a_run_and_is_drawn(tmp_path, finished):
    scores = score_teacher(finished.copy(tmp_path / "run"))
    assert scores.scores == finished.record.teacher["scores"]
    assert scores.chosen == finished.record.teacher["chosen"]
    assert scores.reason == finished.record.teacher["reason"]
    assert scores.picture is not None
    assert scores.picture.read_bytes()[:4] == b"\x89PNG"


def test_a_teacher_that_is_not_there_yet_is_trained_first_and_kept(tmp_path):
    mapping = parity_mapping(tmp_path)
    mapping["teacher"]["train"]["training"]["max_steps"] = 40
    scores = score_teacher(Recipe.from_dict(mapping))
    assert [score["step"] for score in scores.scores] == [20, 40]
    assert not list((tmp_path / "students").rglob("*.safetensors"))
    before = (tmp_path / "teacher" / "checkpoint-40" / "model.safetensors").stat().st_mtime_ns
    assert score_teacher(Recipe.from_dict(mapping)).scores == scores.scores
    assert (tmp_path / "teacher" / "checkpoint-40" / "model.safetensors").stat().st_mtime_ns == before


def test_scores_of_other_held_out_data_are_not_reused(tmp_path, finished):
    """Until something is trained a recipe may be mended in its folder; its old scores are then those of other data."""

    def recipe(k: int) -> Recipe:
        task = {"name": "parity", "d": 10, "k": k, "validation_examples": 250}
        return Recipe.from_dict(
            parity_mapping(tmp_path, task=task, teacher={"source": str(finished.root / "teacher")})
        )

    assert score_teacher(recipe(2)).scores[-1]["accuracy"] == 1.0
    assert score_teacher(recipe(3)).scores[-1]["accuracy"] < 0.7


@pytest.mark.parametrize(("steps", "k"), [((160,), 2), ((20, 80, 160), 3)], ids=["one revision", "never learnt"])
def test_a_teacher_without_a_sharp_drop_has_scores_and_a_reason(tmp_path, finished, steps, k):
    source = [str(finished.root / "teacher" / f"checkpoint-{step}") for step in steps]
    task = {"name": "parity", "d": 10, "k": k, "validation_examples": 250}
    scores = score_teacher(Recipe.from_dict(parity_mapping(tmp_path, task=task, teacher={"source": source})))
    assert len(scores.scores) == len(steps)
    assert (scores.chosen, scores.picture) == (None, None)
    assert scores.reason
    assert json.loads((tmp_path / "teacher_scores.json").read_text())["scores"] == scores.scores


def test_a_recipe_without_a_teacher_says_what_to_give(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no teacher to score; give it `teacher\.source` or `teacher\.train`"):
        score_teacher(untaught(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["ensemble", "ema"])
def test_a_teacher_without_revisions_of_its_own_is_not_scored(tmp_path, kind):
    with pytest.raises(ValueError, match="do not learn from one teacher's revisions, so there are none to score"):
        score_teacher(teaching_recipe(tmp_path / "run", kind))
    assert not (tmp_path / "run").exists()


def test_a_student_that_cannot_be_built_is_told_before_the_teacher_is_trained(tmp_path):
    model = {"architecture": "parity_mlp", "config": {"width": -1}}
    with pytest.raises(ValueError, match=r"^student\.model: no .* can be built"):
        score_teacher(Recipe.from_dict(parity_mapping(tmp_path / "run", student={"model": model})))
    assert not list((tmp_path / "run").rglob("*.safetensors"))
