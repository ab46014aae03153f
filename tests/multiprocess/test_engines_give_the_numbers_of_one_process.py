"""Whatever engine trains on two processes, losses, weights and held-out metrics are those of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_cells import CELLS, CLIPPED_TO, HEADS, deviation, found_of, prepare
from launching import RANKS, TESTS, Found, once_for_all, run_two_ranks

CELL_NAMES = [f"{way}/{head}" for way, head in CELLS]
ZERO = [pytest.param(f"zero{stage}", marks=pytest.mark.deepspeed) for stage in (1, 2, 3)]
pytestmark = [
    pytest.mark.multiprocess,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    """What the cells read, and what one process found."""

    def run(folder: Path) -> None:
        (folder / "prepared").mkdir()
        prepare(folder / "prepared")
        torch.save(found_of("alone", folder / "prepared", folder / "work"), folder / "found.pt")

    folder = once_for_all(tmp_path_factory, "cells-alone", run)
    return folder / "prepared", torch.load(folder / "found.pt")


@pytest.fixture(scope="module", params=["ddp", "fsdp2", *ZERO])
def three(
    request: pytest.FixtureRequest, alone: tuple[Path, Found], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Found, ...]:
    """What one process found, and each of two ranks under an engine."""

    def run(folder: Path) -> None:
        run_two_ranks(TESTS / "engine_cells.py", request.param, folder, alone[0])

    folder = once_for_all(tmp_path_factory, f"cells-{request.param}", run)
    return alone[1], *(torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS))


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_two_processes_end_where_one_does(three: tuple[Found, ...], cell: str) -> None:
    single, first, second = three
    assert first["world"] == second["world"] == RANKS
    found = deviation(first, single, cell)
    assert found.losses < 1e-6
    assert found.update < 1e-5
    assert found.beside < 1e-6
    assert found.held_out < 1e-6


@pytest.mark.parametrize("cell", [f"projector/{head}" for head in HEADS])
def test_the_norm_of_student_and_projectors_together_is_what_is_clipped(three: tuple[Found, ...], cell: str) -> None:
    single, *ranks = (found[f"{cell}/norms"] for found in three)
    assert single.min() > CLIPPED_TO
    for norms in ranks:
        torch.testing.assert_close(norms, single, rtol=1e-5, atol=0)


@pytest.mark.parametrize("cell", [f"sharded/{head}" for head in HEADS])
def test_a_sharded_teacher_is_whole_where_the_student_is_split(
    request: pytest.FixtureRequest, three: tuple[Found, ...], cell: str
) -> None:
    splits = request.node.callspec.params["three"] in ("fsdp2", "zero3")
    for found in three[1:]:
        assert found[f"{cell}/teacher held"].item() == pytest.approx(0.5 if splits else 1.0, abs=0.02)
        assert found[f"switch/{cell.removeprefix('sharded/')}/teacher held"] == 1.0


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_both_processes_hold_the_same_student(three: tuple[Found, ...], cell: str) -> None:
    _, first, second = three
    for key in ("update", "beside"):
        assert torch.equal(first[f"{cell}/{key}"], second[f"{cell}/{key}"]), key
