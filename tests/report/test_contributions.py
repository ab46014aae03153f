"""What `analyze sensitivity` left is shown by curriculum, medians over seeds, and nothing is shown without it."""

from __future__ import annotations

import pytest
from evaluated import write_sensitivity
from PIL import Image

from hf_distill.report.contributions import (
    contribution_cells,
    contribution_headers,
    contributions_info,
    plot_contributions,
)


@pytest.fixture
def folder(tmp_path):
    return write_sensitivity(tmp_path)


def test_curricula_are_medians_over_their_seeds(folder):
    info = contributions_info(folder)
    assert [(row.label, row.place, row.seeds) for row in info.rows] == [
        ("teacher, final", None, 1),
        ("plain", 0, 3),
        ("intra", 1, 3),
    ]
    intra = info.rows[2]
    assert intra.deviation == pytest.approx((0.004, 0.002, 0.006))
    assert intra.raw.x == pytest.approx((0, 10, 20))
    assert intra.raw.median == pytest.approx((0.008, 0.004, 0.002))
    assert intra.pruning.low[-1] == pytest.approx(0.497)
    assert intra.pruning.high[-1] == pytest.approx(0.499)
    assert (info.metric, info.batches, info.top) == ("accuracy", 5, 0.2)


def test_the_table_says_both_deviations_and_what_pruning_leaves(folder):
    info = contributions_info(folder)
    heads, row = contribution_headers(info), contribution_cells(info.rows[1])
    shown = dict(zip(heads, row, strict=True))
    assert shown["deviation of sensitivity"] == "0.04 [0.02 – 0.06]"
    assert shown["deviation ÷ loss"] == "0.04 [0.02 – 0.06]"
    assert shown["held by the top 20 %"] == "80 %"
    assert shown["accuracy with 80 % zeroed"] == "0.4800"
    assert contribution_cells(info.rows[0])[1] == "–"


def test_the_picture_has_its_size(folder):
    path = plot_contributions(contributions_info(folder), folder / "contributions.png")
    assert Image.open(path).size == (1500, 660)


def test_a_question_that_was_not_asked_has_no_answer(tmp_path):
    assert contributions_info(tmp_path) is None


def test_a_damaged_answer_is_named(folder):
    (folder / "analysis" / "sensitivity.json").write_text("{")
    with pytest.raises(ValueError, match=r"sensitivity\.json is not readable JSON.*analyze sensitivity` again"):
        contributions_info(folder)
