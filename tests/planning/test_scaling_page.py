"""The tables of the page of launch configurations are those that the formulas give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hf_distill.planning.engines import ENGINES
from hf_distill.planning.pairs import CHOSEN, PAIRS
from hf_distill.planning.scaling import GPUS
from hf_distill.planning.scaling_page import BLOCKS, END, SHOWN, WAYS, choice_table, layouts_table, written

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
PAGE = FOLDER / "README.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    return {name: make() for name, make in BLOCKS.items()}


def rows_of(block: str) -> list[list[str]]:
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", BLOCKS)
def test_the_tables_of_the_page_are_up_to_date(page, blocks, name):
    found = page.partition(f"<!-- scaling: {name} -->")[2].partition(END)[0]
    assert found.strip() == blocks[name].strip(), (
        "write it anew: python scripts/scaling_table.py --page recipes/accelerate/README.md"
    )


def test_each_pair_is_told_for_1_to_1024_gpus(blocks):
    for name in PAIRS:
        first = [row[0] for row in rows_of(blocks[name])[2:]]
        assert first[: len(GPUS)] == [f"{number:,}" for number in GPUS]
        assert first[-len(SHOWN) :] == [f"{number:,}" for number in SHOWN]


def test_every_way_and_every_pair_has_a_row(blocks):
    assert [row[0] for row in rows_of(blocks["layouts"])[2:]] == [f"{engine}, {teacher}" for engine, teacher in WAYS]
    assert len(rows_of(blocks["choice"])) == 2 * (len(CHOSEN) + 2)
    assert "1.5B" in layouts_table(PAIRS["qwen"])


def test_only_configurations_that_are_there_are_recommended(blocks):
    recommended = set(re.findall(r"\w+\.yaml", blocks["choice"]))
    assert len(recommended) > 3
    assert all((FOLDER / name).is_file() for name in recommended)
    assert all((FOLDER / engine.file).is_file() for engine in ENGINES.values())
    assert "more GPUs" not in choice_table(8)


def test_only_blocks_are_written_and_one_without_an_end_is_refused(blocks):
    text = f"before\n<!-- scaling: constants -->\nold\n{END}\nbehind"
    found = written(text)
    assert found.startswith("before\n<!-- scaling: constants -->\n\n| constant")
    assert found.endswith(f"{END}\nbehind")
    assert written(found) == found
    with pytest.raises(ValueError, match="constants -->` without"):
        written("<!-- scaling: constants -->")
