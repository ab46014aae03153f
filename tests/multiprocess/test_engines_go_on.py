"""Under every engine a run goes on from its checkpoint as if nothing had happened, also where a save was cut short."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from launching import RANKS, Ended, Found, once_for_all, run_forked
from resumed_ranks import EVERY, STEPS, end_in_save, go_on, go_on_elsewhere, prepare, train_and_go_on, trained

from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint, trainer_checkpoint_problem

CASES = {"ddp": ["dropout", "extraction", "steady"], "fsdp2": ["dropout", "steady", "parts"]}
SPLIT = ["dropout", "steady"]
"""What engines train that split the student: none of them follows a forward that ends early."""
ENDS = {"ddp": (1, None), "fsdp2": (0, 40_000), "zero1": (1, None), "zero2": (1, 1_000), "zero3": (1, 1_000)}
"""Which rank ends in a save: before it writes, or in the middle of a file of so many bytes."""
ZERO = [pytest.param(f"zero{stage}", marks=pytest.mark.deepspeed) for stage in (1, 2, 3)]
pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def all_well(ended: list[Ended]) -> None:
    assert [one.code for one in ended] == [0] * len(ended), "\n".join(one.errors[-3000:] for one in ended)


def found_in(folder: Path, ranks: int = RANKS) -> list[Found]:
    found = [torch.load(folder / f"rank{rank}.pt") for rank in range(ranks)]
    assert [one["world"].item() for one in found] == [ranks] * ranks
    return found


@pytest.fixture(scope="module", params=["ddp", "fsdp2", *ZERO])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def gone_on(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine's runs."""

    def run(folder: Path) -> None:
        all_well(run_forked(train_and_go_on, prepare(folder), engine, CASES.get(engine, SPLIT)))

    return once_for_all(tmp_path_factory, f"gone-on-{engine}", run)


def test_a_resumed_run_ends_bitwise_where_the_whole_one_does(engine: str, gone_on: Path) -> None:
    first, second = found_in(gone_on)
    for case in CASES.get(engine, SPLIT):
        assert torch.equal(first[f"{case}/resumed"], first[f"{case}/whole"]), case
        assert torch.equal(first[f"{case}/whole"], second[f"{case}/whole"]), case


def test_switches_forget_the_same_in_every_engine(gone_on: Path, tmp_path: Path) -> None:
    alone, found = trained("alone", "steady", prepare(tmp_path)), found_in(gone_on)[0]["steady/whole"]
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_has_what_the_run_cannot_make_again(engine: str, gone_on: Path) -> None:
    for case in CASES.get(engine, SPLIT):
        folder = gone_on / case / f"checkpoint-{EVERY}"
        state = json.loads((folder / "distill_state.json").read_text())
        assert trainer_checkpoint_problem(folder) is None
        assert state["switches"] == [2, 4]
        assert [revision["step"] for revision in state["revisions"]] == [10, 20, 30]
        assert all(revision["commit"].startswith("sha256:") for revision in state["revisions"])
        assert state["processes"] == RANKS
        assert state["curriculum"].get("projection_seed") == (5 if case == "extraction" else None)
        beside = "extractor" if case == "extraction" else "projectors"
        assert (folder / f"{beside}.safetensors").stat().st_size > 0
        assert (folder / "beside_optimizer.pt").exists() == (engine != "ddp")


def test_a_rank_that_ends_in_a_save_leaves_the_checkpoint_before(engine, gone_on, tmp_path) -> None:
    prepare(tmp_path)
    rank, size = ENDS[engine]
    ended = run_forked(end_in_save, tmp_path, engine, "dropout", rank, size)
    assert ended[rank].code == -(signal.SIGKILL if size is None else signal.SIGXFSZ)
    assert ended[1 - rank].code != 0
    last = tmp_path / "dropout" / f"checkpoint-{STEPS}"
    assert last.is_dir()
    assert find_last_whole_checkpoint(tmp_path / "dropout").name == f"checkpoint-{EVERY}"
    all_well(run_forked(go_on, tmp_path, engine, ["dropout"]))
    assert trainer_checkpoint_problem(last) is None
    for found, whole in zip(found_in(tmp_path), found_in(gone_on), strict=True):
        assert torch.equal(found["dropout/resumed"], whole["dropout/whole"])


# ---- other numbers of processes ----


def take_checkpoint(source: Path, target: Path, case: str) -> None:
    name = f"{case}/checkpoint-{EVERY}"
    shutil.copytree(source / name, target / name)


def assert_gone_on(folder: Path, ranks: int, case: str, whole: torch.Tensor) -> None:
    for found in found_in(folder, ranks):
        torch.testing.assert_close(found[f"{case}/resumed"], whole, rtol=1e-5, atol=1e-6)


def test_one_process_goes_on_where_two_were(engine: str, gone_on: Path, tmp_path: Path) -> None:
    cases = [case for case in CASES.get(engine, SPLIT) if case in ("steady", "parts")]
    for case in cases:
        take_checkpoint(gone_on, tmp_path, case)
    all_well(run_forked(go_on_elsewhere, prepare(tmp_path), engine, cases, ranks=1))
    for case in cases:
        assert_gone_on(tmp_path, 1, case, found_in(gone_on)[0][f"{case}/whole"])


@pytest.mark.deepspeed
@pytest.mark.parametrize("engine", ZERO, indirect=True)
def test_two_processes_go_on_where_one_was(engine: str, tmp_path: Path) -> None:
    one, two = prepare(tmp_path / "one"), prepare(tmp_path / "two")
    all_well(run_forked(train_and_go_on, one, engine, ["steady"], ranks=1))
    take_checkpoint(one, two, "steady")
    all_well(run_forked(go_on_elsewhere, two, engine, ["steady"]))
    assert_gone_on(two, RANKS, "steady", found_in(one, 1)[0]["steady/whole"])
