from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import SGD, parity_mapping, parity_recipe, text_recipe, untaught, write_text

from hf_distill.cache.codecs import CODECS
from hf_distill.cache.format import Manifest
from hf_distill.pipeline.caching import cache_recipe, check_cacheable, codec_spec, live, refuse_foreign
from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.walks import taught_cells
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe

LOGITS = {"name": "logits"}


def test_a_recipe_has_one_cache_for_all_its_students(tmp_path: Path, finished: Any) -> None:
    recipe = finished.copy(tmp_path / "run")
    caching = cache_recipe(recipe, codec=LOGITS)
    manifest = Manifest.load(tmp_path / "run" / "targets")
    assert manifest == caching.manifest
    names = {revision["commit"]: revision["name"] for revision in manifest.revisions}
    spoken = {names[shard.commit] for shard in manifest.shards}
    assert spoken == {finished.record.teacher["chosen"], "checkpoint-160"}
    # Two students of 80 steps of 50 examples, of which there are 2^10 different ones; the third learns from labels.
    assert caching.visited == 2 * 80 * 50
    assert caching.forwarded == manifest.examples < 2 * 2**10
    assert len(manifest.walks) == 2
    assert sum(manifest.walks.values()) == caching.visited


def test_the_cache_knows_what_was_found_about_the_teacher(tmp_path: Path, finished: Any) -> None:
    caching = cache_recipe(finished.copy(tmp_path / "run"), codec=LOGITS)
    found, kept = finished.record.teacher, caching.manifest.teacher
    for key in ("scores", "chosen", "reason", "parameters", "final_metrics", "source"):
        assert kept[key] == found[key], key
    assert caching.manifest.recipe is not None
    assert Recipe.from_dict(caching.manifest.recipe) == parity_recipe(tmp_path / "run")
    assert caching.manifest.data["description"]["train_rows"] == 10_000


def test_nothing_is_trained_but_the_teacher(tmp_path: Path) -> None:
    short = {**SGD, "max_steps": 40, "save_steps": 20, "save_only_model": True}
    model = {"architecture": "parity_mlp", "config": {"width": 16}}
    recipe = parity_recipe(
        tmp_path / "run",
        teacher={"train": {"model": model, "training": short}},
        compare={"one_shot": {"name": "one_shot"}},
        training={**SGD, "max_steps": 5},
    )
    caching = cache_recipe(recipe, codec=LOGITS)
    assert [revision["name"] for revision in caching.manifest.revisions] == ["checkpoint-20", "checkpoint-40"]
    assert not list((tmp_path / "run").glob("students/*/*/*"))


def test_a_second_call_asks_the_teacher_nothing(tmp_path: Path, finished: Any) -> None:
    recipe = finished.copy(tmp_path / "run")
    first = cache_recipe(recipe, codec=LOGITS)
    again = cache_recipe(recipe, codec=LOGITS)
    assert (again.forwarded, again.visited) == (0, first.visited)
    assert (again.manifest.files, again.manifest.walks) == (first.manifest.files, first.manifest.walks)


@pytest.mark.slow
def test_a_recipe_that_grew_adds_what_is_missing(tmp_path: Path, finished: Any) -> None:
    mapping = parity_mapping(tmp_path / "run", compare={"one_shot": {"name": "one_shot"}})
    mapping["teacher"] = {"source": str(finished.root / "teacher")}
    first = cache_recipe(Recipe.from_dict(mapping), codec=LOGITS, folder=tmp_path / "targets")
    mapping["compare"]["longer"] = {"name": "two_shot", "revision": "checkpoint-60", "steps": 30}
    mapping["output_dir"] = str(tmp_path / "second")
    second = cache_recipe(Recipe.from_dict(mapping), codec=LOGITS, folder=tmp_path / "targets")
    assert 0 < second.forwarded < second.manifest.examples
    assert second.manifest.examples == first.manifest.examples + second.forwarded
    assert set(first.manifest.walks) < set(second.manifest.walks)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["masked_lm", "causal_lm"])
def test_texts_are_cached_with_tokenizer_and_length(tmp_path: Path, task: str) -> None:
    recipe = text_recipe(tmp_path / "run", write_text(tmp_path / "text"), task)
    caching = cache_recipe(recipe, codec=codec_spec(recipe))
    settings = caching.manifest.settings
    assert settings.codec == {"name": "hidden", "dtype": "bfloat16"}
    assert settings.max_length == 16
    assert settings.tokenizer is not None
    assert len([file for file in caching.manifest.files if file.path.startswith("heads/")]) == 2
    assert caching.manifest.rows > caching.manifest.examples


# ---- what is refused, before a teacher is trained ----


def assert_refused(recipe: Recipe, said: str, codec: dict[str, Any] = LOGITS) -> None:
    with pytest.raises(ValueError, match=said):
        cache_recipe(recipe, codec=codec)
    assert not list(Path(recipe.output_dir).glob("teacher/checkpoint-*")), "work was done before the refusal"


@pytest.mark.parametrize(
    ("curriculum", "said"),
    [
        (
            {"name": "adaptive", "metric": "accuracy", "level": 0.9},
            r"^compare\.taught: an adaptive curriculum .*cannot be cached",
        ),
        (
            {"name": "one_shot", "objectives": [{"name": "hidden_mse", "projector": "linear", "layers": [[1, 1]]}]},
            r"taught: .*hidden",
        ),
    ],
    ids=["adaptive", "layers"],
)
def test_curricula_that_cannot_be_cached_are_refused_before_any_work(tmp_path, curriculum, said):
    assert_refused(parity_recipe(tmp_path / "run", compare={"taught": curriculum, "labels": {"name": "labels"}}), said)


def test_raw_logits_are_refused_for_the_top_k(tmp_path: Path) -> None:
    compare = {"taught": {"name": "one_shot", "objectives": [{"name": "logit_mse"}]}}
    assert_refused(parity_recipe(tmp_path / "run", compare=compare), "compares raw logits", {"name": "top_k", "k": 1})


def test_students_of_labels_have_nothing_to_cache(tmp_path: Path) -> None:
    assert_refused(untaught(tmp_path / "run"), "learn from labels only")
    assert_refused(parity_recipe(tmp_path / "run", compare={"labels": {"name": "labels"}}), "learn from labels only")


def test_a_teacher_that_is_only_a_cache_cannot_be_cached(tmp_path: Path) -> None:
    assert_refused(parity_recipe(tmp_path / "run", teacher={"cached": "org/targets"}), "names cached targets only")


def test_a_teacher_that_is_the_student_is_refused(tmp_path: Path) -> None:
    recipe = parity_recipe(
        tmp_path / "run",
        teacher={"self_teacher": {"name": "ema"}},
        compare={"own": {"name": "one_shot", "label_mix": 0.5}},
    )
    assert_refused(recipe, r"^compare\.own: what EmaTeacher says depends on the student")


def test_the_curriculum_is_named_that_cannot_be_cached(tmp_path: Path, finished: Any) -> None:
    recipe = finished.copy(tmp_path / "run")
    task, workspace = task_of(recipe), Workspace(tmp_path / "run")
    codec = CODECS.build(LOGITS, path="codec")
    check_cacheable(recipe, task, workspace, taught_cells(recipe), codec=codec, scratch=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists() or not any((tmp_path / "scratch").iterdir())


# ---- settings ----


def test_the_exact_codec_of_a_head_is_the_default(tmp_path: Path) -> None:
    recipe = parity_recipe(tmp_path / "run")
    assert codec_spec(recipe) == {"name": "logits", "dtype": "float32"}
    assert codec_spec(recipe, name="top_k", k=8) == {"name": "top_k", "k": 8, "dtype": "float16"}
    text = text_recipe(tmp_path / "text", tmp_path, "causal_lm")
    assert codec_spec(text) == {"name": "hidden", "dtype": "bfloat16"}
    assert codec_spec(text, dtype="int8") == {"name": "hidden", "dtype": "int8"}
    with pytest.raises(ValueError, match=r"codec\.k: unknown key"):
        codec_spec(recipe, k=8)


def test_a_recipe_that_reads_its_cache_can_write_it(tmp_path: Path) -> None:
    recipe = parity_recipe(tmp_path / "run")
    reading = Recipe.from_dict({**recipe.to_dict(), "teacher": {**recipe.to_dict()["teacher"], "cached": True}})
    assert live(reading) == recipe


def test_a_place_that_holds_something_else_is_refused_before_a_teacher_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    for place, said in (("file", "file is a file; expected a folder"), ("full", "not empty and holds no cached targ")):
        with pytest.raises(ValueError, match=said):
            cache_recipe(parity_recipe(tmp_path / "run"), codec=LOGITS, folder=tmp_path / place)
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    refuse_foreign(tmp_path / "empty")
    refuse_foreign(tmp_path / "new")
