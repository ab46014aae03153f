"""Teachers that an engine splits over two processes: the answers of whole ones, and a half of their weights each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launching import PYTHONPATH, RANKS, ROOT, TESTS, Found, once_for_all, run_two_ranks
from tiny_recipes import parity_mapping

from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]
LARGEST_PIECE = 0.52
"""Of a tensor with an odd number of rows one rank holds more."""


@pytest.fixture(scope="module", params=["fsdp2", pytest.param("zero3", marks=pytest.mark.deepspeed)])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def ranks(engine: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What each rank found."""

    def run(folder: Path) -> None:
        run_two_ranks(TESTS / "sharded_two_ranks.py", engine, folder)

    folder = once_for_all(tmp_path_factory, f"sharded-{engine}", run)
    found = tuple(torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS))
    assert [one["world"].item() for one in found] == [RANKS] * RANKS
    return found


def test_a_student_learns_the_same_from_a_split_teacher(ranks):
    for found in ranks:
        for whole, sharded in (
            ("whole/ended", "sharded/ended"),
            ("whole/scores", "sharded/scores"),
            ("live whole/rows", "live sharded/rows"),
            ("live whole/layers", "live sharded/layers"),
            ("live whole/bf16", "live sharded/bf16"),
            ("several whole/ended", "several sharded/ended"),
        ):
            torch.testing.assert_close(found[sharded], found[whole], rtol=1e-5, atol=1e-7)
            assert torch.equal(found[sharded], ranks[0][sharded])


def test_ranks_call_a_split_teacher_equally_often_at_an_uneven_end(ranks):
    # Two epochs of thirteen examples: a step of two micro-batches, and one of what is left, on each rank.
    assert {found[f"{kind}/forwards"].item() for found in ranks for kind in ("whole", "sharded")} == {8}


def test_a_rank_holds_only_its_piece_between_calls(ranks):
    for key in ("held", "live sharded/held"):
        shares = [found[key].item() for found in ranks]
        assert max(shares) < LARGEST_PIECE
        assert sum(shares) == pytest.approx(1.0, abs=1e-3), "but for padding, each number lies on one rank"
    assert all(found["live whole/held"] == 1.0 for found in ranks)


def test_ranks_read_only_what_they_hold(ranks):
    read = [found["read"].item() for found in ranks]
    assert sum(read) == ranks[0]["file"].item() == ranks[0]["numbers"].item()
    assert max(read) < LARGEST_PIECE * sum(read)


def test_a_revision_leaves_no_numbers_of_the_one_before(engine, ranks):
    # In one file, in several, and with names that only transformers' own loading knows.
    for kind in ("again", "persistent") if engine == "zero3" else ("again",):
        for index in range(3):
            for found in ranks:
                answers, weights = found[f"{kind}/{index}"].tolist()
                assert answers < 1e-6
                assert weights == 0.0
    if engine == "zero3":
        assert all(found["persistent/held"] > 1.4 for found in ranks), "small weights were whole beside the pieces"
        assert all(found["in pieces"] < 1e-6 for found in ranks), "split when it was loaded"


def test_a_split_teacher_is_not_trained_and_draws_no_dropout(ranks):
    assert not any(found[key] for found in ranks for key in ("trains", "learns"))


def test_no_optimizer_and_no_checkpoint_holds_the_teacher(ranks):
    for found in ranks:
        assert found["sharded/optimized"] == found["whole/optimized"] == found["numbers"]
        # Half of the teacher would be twelve thousand bytes.
        assert found["saved/none"] > 2 * 4 * found["numbers"]
        assert abs(found["saved/sharded"] - found["saved/none"]) < 1000


def test_layers_of_a_split_teacher_can_be_read(ranks):
    assert all(found["live/layer"].tolist() == [1, 6, 16] for found in ranks)


def run_under_zero3(folder: Path) -> None:
    mapping = parity_mapping(folder / "run", compare={"two_shot": {"name": "two_shot", "revision": 40, "steps": 10}})
    for training in (mapping["teacher"]["train"]["training"], mapping["training"]):
        training.update(per_device_train_batch_size=25, max_steps=60)
        # A recipe says nothing of the device.
        del training["use_cpu"]
    mapping["teacher"]["sharded"] = True
    Recipe.from_dict(mapping).save(folder / "tiny.yaml")
    launch = ["accelerate.commands.launch", "--config_file", ROOT / "recipes" / "accelerate" / "zero3.yaml"]
    ranks = ["--num_processes", RANKS, "--mixed_precision", "no"]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, [*launch, *ranks, "-m", "hf_distill", "run", folder / "tiny.yaml"])],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.deepspeed
def test_a_recipe_with_a_sharded_teacher_runs_as_it_is_launched(tmp_path_factory):
    record = RunRecord.load(once_for_all(tmp_path_factory, "sharded-recipe", run_under_zero3) / "run")
    assert record.environment["processes"] == RANKS
    assert record.teacher["parameters"] > record.student["parameters"] > 100, "of all ranks together"
    assert record.teacher["latency"]["weight_bytes"] == 4 * record.teacher["parameters"]
    assert record.runs[0].final_metrics["accuracy"] > 0.9
    assert record.runs[0].stages[0].revision == "checkpoint-40"
