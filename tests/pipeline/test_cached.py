from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tiny_recipes import SGD, parity_mapping, text_recipe, write_text

from hf_distill.pipeline.cached import TARGETS_FILE
from hf_distill.pipeline.caching import cache_recipe, codec_spec
from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe

pytestmark = pytest.mark.slow

COMPARE = {"one_shot": {"name": "one_shot"}, "two_shot": {"name": "two_shot", "revision": "auto", "steps": 20}}


class Cached(NamedTuple):
    """A run's folder with a trained teacher and its targets."""

    folder: Path

    def recipe(self, folder: Path, *, copy: bool = True, **changes: Any) -> Recipe:
        """A recipe that reads a copy of the targets, or those."""
        mapping = parity_mapping(folder, compare=COMPARE, **changes)
        if copy and not folder.exists():
            shutil.copytree(self.folder, folder)
        mapping["teacher"]["cached"] = True if copy else str(self.folder / "targets")
        return Recipe.from_dict(mapping)


@pytest.fixture(scope="module")
def cached(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Cached:
    """Targets of the finished run's teacher, for a folder of their own."""
    folder = tmp_path_factory.mktemp("cached") / "run"
    mapping = parity_mapping(folder, compare=COMPARE)
    shutil.copytree(finished.root, folder, ignore=shutil.ignore_patterns("students", "recipe.yaml", "run_record.json"))
    shutil.rmtree(folder / "cache", ignore_errors=True)
    recipe = Recipe.from_dict(mapping)
    recipe.save(folder / "recipe.yaml")
    cache_recipe(recipe, codec={"name": "logits"})
    return Cached(folder)


def weights(root: Path, curriculum: str) -> dict[str, torch.Tensor]:
    return load_file(root / "students" / curriculum / "seed-0" / "model.safetensors")


def test_a_run_with_cached_targets_ends_as_the_one_with_the_live_teacher(tmp_path: Path, cached: Cached) -> None:
    shutil.copytree(cached.folder, tmp_path / "live", ignore=shutil.ignore_patterns("targets"))
    live = run_recipe(Recipe.from_dict(parity_mapping(tmp_path / "live", compare=COMPARE)))
    record = run_recipe(cached.recipe(tmp_path / "run"))
    for ours, theirs in zip(record.runs, live.runs, strict=True):
        assert ours.stages == theirs.stages
        assert ours.final_metrics["accuracy"] == pytest.approx(theirs.final_metrics["accuracy"], abs=0.01)
        losses = [[entry["loss"] for entry in run.training_log] for run in (ours, theirs)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # Examples that come twice were written in another batch, which may move the last bit of a sum.
    for curriculum in COMPARE:
        for name, tensor in weights(tmp_path / "live", curriculum).items():
            torch.testing.assert_close(weights(tmp_path / "run", curriculum)[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_record_knows_teacher_and_cache(tmp_path: Path, cached: Cached, finished: Any) -> None:
    record = run_recipe(cached.recipe(tmp_path / "run", training={**SGD, "max_steps": 80, "save_steps": 40}))
    for key in ("chosen", "parameters", "final_metrics", "source", "scores"):
        assert record.teacher[key] == finished.record.teacher[key]
    assert record.teacher["cache"]["codec"] == "logits float32"
    assert [r["commit"] for r in record.teacher["revisions"]] == [r.commit for r in finished.record.revisions()]
    assert not (tmp_path / "run" / "teacher" / "checkpoint-20" / "optimizer.pt").exists()


def test_no_teacher_is_trained_or_read(tmp_path: Path, cached: Cached) -> None:
    recipe = cached.recipe(tmp_path / "elsewhere", copy=False)
    record = run_recipe(recipe)
    assert len(record.runs) == 2
    assert not (tmp_path / "elsewhere" / "teacher").exists()
    assert not (tmp_path / "elsewhere" / "teacher_scores.json").exists()


def test_a_recipe_may_name_nothing_but_the_cache(tmp_path: Path, cached: Cached) -> None:
    mapping = parity_mapping(tmp_path / "run", compare={"one_shot": {"name": "one_shot"}})
    mapping["teacher"] = {"cached": str(cached.folder / "targets")}
    record = run_recipe(Recipe.from_dict(mapping))
    assert record.teacher["source"] == "trained by this recipe"
    assert record.runs[0].stages[0].revision == "checkpoint-160"


def assert_refused(recipe: Recipe, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_recipe(recipe)
    assert not list(Path(recipe.output_dir).glob("students/*/*/checkpoint-*")), "a student was trained before"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [3]}, r"^one_shot, seed 3: \d+ of 50 examples .*no target of the teacher revision .*other data"),
        ({"training": {**SGD, "max_steps": 120}}, r"^(one|two)_shot, seed 0: \d+ of 50 examples"),
    ],
    ids=["seed", "steps"],
)
def test_students_that_would_miss_targets_are_refused_before_any_training(tmp_path, cached, changes, said):
    assert_refused(cached.recipe(tmp_path / "run", copy=False, **changes), said)


def test_curricula_that_cannot_be_cached_are_refused_before_any_training(tmp_path: Path, cached: Cached) -> None:
    recipe = cached.recipe(tmp_path / "run", copy=False)
    recipe.compare = {"adapt": {"name": "adaptive", "metric": "accuracy", "level": 0.9}}
    assert_refused(recipe, r"^adapt, seed 0: an adaptive curriculum moves on when the student is ready")


def test_a_damaged_cache_is_refused_by_name_before_any_training(tmp_path: Path, cached: Cached) -> None:
    recipe = cached.recipe(tmp_path / "run")
    shard = next((tmp_path / "run" / "targets" / "shards").iterdir())
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    assert_refused(recipe, f"shards/{shard.name} is damaged")


def test_a_stale_cache_is_refused_by_name_before_any_training(tmp_path: Path, cached: Cached) -> None:
    recipe = cached.recipe(tmp_path / "run")
    teacher = tmp_path / "run" / "teacher"
    shutil.copy(teacher / "checkpoint-20" / "model.safetensors", teacher / "checkpoint-40" / "model.safetensors")
    assert_refused(recipe, r"are stale: they are of the teacher revision 'checkpoint-40' at sha256:")


def test_foreign_texts_are_refused_by_name(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text")
    recipe = text_recipe(tmp_path / "run", text, "masked_lm")
    cache_recipe(recipe, codec=codec_spec(recipe), folder=tmp_path / "targets")

    def other(folder: str, task: str = "masked_lm", **changes: Any) -> Recipe:
        mapping = text_recipe(tmp_path / folder, text, task).to_dict()
        mapping["teacher"] = {"cached": str(tmp_path / "targets")}
        return Recipe.from_dict({**mapping, "task": {**mapping["task"], **changes}})

    run_recipe(other("same"))
    assert_refused(other("masks", mask_rate=0.3), "masking or augmentation that is drawn anew .* other data")
    assert_refused(other("length", max_length=12), "foreign: .* max_length 16, and this recipe has 12")
    # Of other texts, and so with other words.
    (text / "000.txt").write_text("zebras quickly jump over xylophones, why not\n", encoding="utf-8")
    assert_refused(other("words"), "different tokenizers|another tokenizer")
    assert_refused(
        other("head", "causal_lm"), "causal_lm head, and the targets in .* are those of a masked_lm teacher"
    )


def test_students_that_learned_from_rounded_targets_are_not_mixed_with_others(tmp_path: Path, cached: Cached) -> None:
    shutil.copytree(cached.folder, tmp_path / "run", ignore=shutil.ignore_patterns("targets"))
    live = Recipe.from_dict(parity_mapping(tmp_path / "run", compare=COMPARE))
    cache_recipe(live, codec={"name": "logits", "dtype": "float16"})
    rounded = cached.recipe(tmp_path / "run")
    run_recipe(rounded)
    assert json.loads((tmp_path / "run" / TARGETS_FILE).read_text())["targets"] == "cached targets (logits float16)"
    run_recipe(rounded)
    with pytest.raises(ValueError, match=r"learned from cached targets .logits float16., and others would now learn"):
        run_recipe(live)


def test_a_live_run_may_go_on_with_exact_targets(tmp_path: Path, cached: Cached) -> None:
    shutil.copytree(cached.folder, tmp_path / "run")
    live = Recipe.from_dict(parity_mapping(tmp_path / "run", compare=COMPARE))
    first = run_recipe(live)
    shutil.rmtree(tmp_path / "run" / first.runs[1].folder)
    again = run_recipe(cached.recipe(tmp_path / "run"))
    assert again.runs[0].costs == first.runs[0].costs, "a finished student is kept"
    assert again.runs[1].final_metrics["accuracy"] == pytest.approx(first.runs[1].final_metrics["accuracy"], abs=0.01)
