"""Two processes write one cache: each example goes through one teacher once, and both read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cache_two_ranks import CASES
from launching import Found, found_by_two_ranks, once_for_all, run_two_ranks
from safetensors.torch import load_file
from tiny_recipes import parity_mapping

from hf_distill.pipeline.caching import cache_recipe
from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What each of two ranks found."""
    return found_by_two_ranks("cache_two_ranks.py", tmp_path_factory)


@pytest.mark.parametrize("case", CASES)
def test_each_example_goes_through_one_of_the_teachers_once(ranks: tuple[Found, ...], case: str) -> None:
    seen = [int(found[f"{case}/seen"]) for found in ranks]
    for found in ranks:
        assert found[f"{case}/forwarded"] == sum(seen) == found[f"{case}/examples"]
        assert found[f"{case}/visited"] == 10 * 4
        assert found[f"{case}/again"] == 0
    assert 30 <= sum(seen) <= 40
    assert min(seen) >= 12, "each process brings about half of them"
    assert all(found[f"{case}/shards"] > 3 for found in ranks)


@pytest.mark.parametrize("case", CASES)
def test_both_train_the_student_of_the_live_teacher(ranks: tuple[Found, ...], case: str) -> None:
    for found in ranks:
        torch.testing.assert_close(found[f"{case}/cached"], found[f"{case}/live"], rtol=1e-5, atol=1e-6)
    assert torch.equal(ranks[0][f"{case}/cached"], ranks[1][f"{case}/cached"])


def mapping(folder: Path, *, ranks: int) -> dict[str, Any]:
    """A recipe of 50 examples a step, however many processes share them."""
    found = parity_mapping(folder / "run", compare={"two_shot": {"name": "two_shot", "revision": 40, "steps": 10}})
    for training in (found["teacher"]["train"]["training"], found["training"]):
        training.update(per_device_train_batch_size=50 // ranks, max_steps=40)
    found["teacher"]["train"]["training"]["max_steps"] = 60
    return found


def cache_on_two_ranks(folder: Path) -> None:
    Recipe.from_dict(mapping(folder, ranks=2)).save(folder / "tiny.yaml")
    (folder / "shown.txt").write_text(run_two_ranks("-m", "hf_distill", "cache", folder / "tiny.yaml"))


def test_the_command_on_two_ranks_shows_one_table_and_one_process_reads_its_cache(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = once_for_all(tmp_path_factory, "cached-recipe", cache_on_two_ranks)
    shown = (folder / "shown.txt").read_text()
    assert shown.count("revision ") == shown.count("targets: ") == 1
    assert "its students ask 2,000 times" in shown
    alone = mapping(tmp_path, ranks=1)
    alone["teacher"] = {"cached": str(folder / "run" / "targets")}
    record = run_recipe(Recipe.from_dict(alone))
    assert record.runs[0].stages[0].revision == "checkpoint-40"


def one_process_scores(folder: Path) -> None:
    """Cache in one process what two will ask; train one student of the live teacher there, and one of it on two."""
    alone = mapping(folder / "alone", ranks=1)
    cache_recipe(Recipe.from_dict(alone), codec={"name": "logits", "dtype": "float32"})
    run_recipe(Recipe.from_dict(alone))
    together = mapping(folder / "together", ranks=2)
    together["teacher"] = {"cached": str(folder / "alone" / "run" / "targets")}
    del together["training"]["use_cpu"]
    Recipe.from_dict(together).save(folder / "tiny.yaml")
    run_two_ranks("-m", "hf_distill", "run", folder / "tiny.yaml")


def test_two_ranks_learn_the_same_from_what_one_process_scored(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = once_for_all(tmp_path_factory, "scored-by-one", one_process_scores)
    alone, together = (RunRecord.load(folder / name / "run") for name in ("alone", "together"))
    assert (alone.environment["processes"], together.environment["processes"]) == (1, 2)
    assert together.teacher["cache"]["codec"] == "logits float32"
    files = [
        folder / name / "run" / record.runs[0].folder / "model.safetensors"
        for name, record in (("alone", alone), ("together", together))
    ]
    live, cached = map(load_file, files)
    for name, weights in live.items():
        torch.testing.assert_close(cached[name], weights, rtol=1e-3, atol=1e-5)
