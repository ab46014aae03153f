"""Points as text: what people read of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scaled_work import work

from hf_distill.planning.engines import ENGINES
from hf_distill.planning.machine import MACHINES
from hf_distill.planning.scaling import Layout, scaled
from hf_distill.planning.scaling_rows import (
    compared_rows,
    layout_rows,
    memory_text,
    share_text,
    step_rows,
    time_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"),
        (2e-6, "0"),
        (2.4e-5, "0.024 ms"),
        (0.0256, "26 ms"),
        (0.5172, "517 ms"),
        (0.9996, "1000 ms"),
        (1.565, "1.56 s"),
        (129.05, "129 s"),
    ],
)
def test_times_keep_two_or_three_digits(seconds, text):
    assert time_text(seconds) == text


@pytest.mark.parametrize(("share", "text"), [(1.0, "100%"), (0.1, "10%"), (0.0995, "10%"), (0.004, "0.4%")])
def test_a_small_share_is_not_rounded_to_nothing(share, text):
    assert share_text(share) == text


def test_each_row_has_a_cell_for_each_head():
    points = scaled(work(), Layout(), examples=64)
    table = step_rows(points, memory=80 * 10**9)
    assert all(len(row) == len(table.heads) for row in table.rows)
    assert [row[0] for row in table.rows] == ["1", "2", "4", "8", "16", "32", "64"]
    assert table.rows[0][1] == "8 × 8"
    assert table.rows[0][-2] == "100%"
    assert table.heads[-1] == "memory (of 80 GB)"


def test_a_layout_without_a_number_of_gpus_has_no_text_for_it():
    few, all_of_them = scaled(work(), Layout(), examples=4), scaled(work(), Layout())
    table = compared_rows({"few": few, "all": all_of_them}, (1, 8))
    assert table.heads == ["GPUs", "few", "all"]
    assert table.rows[1][1] == "–"
    assert table.rows[0][2].endswith(", 100%, teacher")
    split = scaled(work(), Layout(engine=ENGINES["fsdp2"]), gpus=(8,))
    assert layout_rows({"fsdp2": split}, (8,)).rows == [["fsdp2", memory_text(split[0]), time_text(split[0].step)]]


def test_too_much_memory_says_so():
    point = scaled(work(), Layout(machine=replace(MACHINES["l4"])), gpus=(8,))[0]
    assert memory_text(point).endswith(" GB, too much")
    assert memory_text(replace(point, memory=5_400_000, fits=True)) == "5 MB"
