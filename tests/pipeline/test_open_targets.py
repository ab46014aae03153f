from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import parity_mapping

from hf_distill.pipeline.caching import cache_recipe
from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.open_targets import known_revisions, open_cache, stand_in_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.teachers import LiveTeacher
from hf_distill.teachers.cached import CachedTeacher


def with_teacher(folder: Path, teacher: dict[str, Any]) -> Recipe:
    return Recipe.from_dict({**parity_mapping(folder), "teacher": teacher})


@pytest.fixture(scope="module")
def cached(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with cached targets."""
    folder = tmp_path_factory.mktemp("open") / "run"
    cache_recipe(finished.copy(folder), codec={"name": "logits"})
    return folder


def test_true_means_the_recipes_own_targets(cached: Path) -> None:
    workspace = Workspace(cached)
    for value in (True, str(cached / "targets")):
        recipe = with_teacher(cached, {"cached": value})
        assert open_cache(recipe.teacher, workspace).reader.folder == cached / "targets"


def test_targets_are_compared_with_the_teacher_that_lies_there(cached: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(parity_mapping(cached))
    mapping = {**recipe.to_dict()["teacher"], "cached": True}
    spec = with_teacher(cached, mapping).teacher
    assert [revision.name for revision in known_revisions(spec, Workspace(cached))][-1] == "checkpoint-160"
    assert known_revisions(spec, Workspace(tmp_path)) is None, "the teacher is not trained yet"
    open_cache(spec, Workspace(cached))
    shutil.copytree(cached, tmp_path / "run")
    weights = tmp_path / "run" / "teacher" / "checkpoint-160" / "model.safetensors"
    shutil.copy(tmp_path / "run" / "teacher" / "checkpoint-20" / "model.safetensors", weights)
    with pytest.raises(ValueError, match=r"stale: .*'checkpoint-160' at sha256:"):
        open_cache(spec, Workspace(tmp_path / "run"))


def test_targets_of_weights_that_were_loaded_otherwise_are_refused(cached: Path) -> None:
    mapping = {**Recipe.from_dict(parity_mapping(cached)).to_dict()["teacher"], "cached": True, "dtype": "bfloat16"}
    spec = with_teacher(cached, mapping).teacher
    with pytest.raises(ValueError, match=r"loaded otherwise: there as they are stored, here dtype bfloat16"):
        open_cache(spec, Workspace(cached))


def test_a_teacher_made_of_several_is_not_put_together_to_compare(tmp_path: Path) -> None:
    model = {"architecture": "parity_mlp", "config": {"width": 8}}
    for teacher in (
        {"cached": True},
        {"cached": True, "ensemble": {"members": [{"source": "org/a"}, {"source": "org/b"}]}},
        {"cached": True, "source": "org/a", "assistants": [{"model": model}]},
        {"cached": True, "source": "org/a", "pruned": {}},
    ):
        assert known_revisions(with_teacher(tmp_path, teacher).teacher, Workspace(tmp_path)) is None


def test_cached_targets_stand_for_themselves_before_a_run(cached: Path, tmp_path: Path) -> None:
    recipe = with_teacher(cached, {"cached": True})
    # The check of a recipe looks for models and data in a folder of its own.
    found = stand_in_of(recipe, task_of(recipe), Workspace(tmp_path / "scratch"))
    assert isinstance(found, CachedTeacher)
    plain = Recipe.from_dict(parity_mapping(tmp_path / "plain"))
    assert isinstance(stand_in_of(plain, task_of(plain), Workspace(tmp_path / "plain")), LiveTeacher)


def test_targets_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a folder with cached targets nor a data set"):
        open_cache(with_teacher(tmp_path, {"cached": str(tmp_path / "nothing")}).teacher, Workspace(tmp_path))
    with pytest.raises(ValueError, match=r"targets is neither|hf-distill cache RECIPE"):
        open_cache(with_teacher(tmp_path, {"cached": True}).teacher, Workspace(tmp_path))
