"""Pictures of a known size, labels that do not overlap, colours that stay fixed."""

from __future__ import annotations

from itertools import pairwise

import matplotlib
import pytest
from PIL import Image

from hf_distill.analysis.drawing import (
    PALETTE,
    new_figure,
    save_figure,
    series_colour,
    series_line_style,
    spread_labels,
)


def test_picture_has_the_pixels_asked_for(tmp_path):
    path = save_figure(new_figure(900, 450), tmp_path / "folder" / "picture.png")
    with Image.open(path) as image:
        assert image.size == (900, 450)


def test_drawing_leaves_the_global_settings_of_matplotlib_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    save_figure(new_figure(300, 150), tmp_path / "picture.png")
    assert dict(matplotlib.rcParams) == before


def test_labels_at_one_height_do_not_overlap():
    moved = spread_labels([1.0, 1.0, 1.0, 0.5], gap=0.1, low=0.0, high=1.0)
    ordered = sorted(moved)
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(ordered))
    assert max(moved) <= 1.0 + 1e-9
    assert moved[3] == pytest.approx(0.5)
    assert moved[0] > moved[1] > moved[2], "equal positions keep their order from top to bottom"


def test_too_many_labels_share_the_room_instead_of_leaving_it():
    moved = spread_labels([0.5] * 21, gap=0.2, low=0.0, high=1.0)
    assert min(moved) == pytest.approx(0.0, abs=1e-9)
    assert max(moved) == pytest.approx(1.0)


def test_no_labels_is_not_an_error():
    assert spread_labels([], gap=0.1, low=0.0, high=1.0) == []


def test_series_beyond_the_palette_differ_by_line_style():
    count = 3 * len(PALETTE)
    looks = {(series_colour(index), str(series_line_style(index))) for index in range(count)}
    assert len(looks) == count
