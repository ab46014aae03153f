"""The parts of the loss as panels: nothing logged is lost, nothing is invented."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image
from sample_records import labels_only_record, sample_record, student

from hf_distill.report.loss_parts import loss_parts_info, plot_loss_parts


def logged(seed, *entries):
    return dataclasses.replace(student("two_shot", seed, revisions=["a", "b"]), training_log=list(entries))


def test_panels_come_in_a_fixed_order_with_medians_over_seeds():
    runs = [
        logged(0, {"step": 5, "weight/kl": 1.0, "objective/kl": 0.2, "loss": 0.4, "learning_rate": 0.1}),
        logged(1, {"step": 5, "weight/kl": 1.0, "objective/kl": 0.6, "loss": 0.8}, {"step": 10, "weight/kl": 0.5}),
    ]
    info = loss_parts_info(sample_record(runs=runs))
    assert list(info.panels) == ["loss", "objective/kl", "weight/kl"]
    (curve,) = info.panels["objective/kl"]
    assert (curve.curriculum, curve.steps) == ("two_shot", (5,))
    assert curve.median == pytest.approx((0.4,))
    assert info.panels["loss"][0].steps == (5,)


def test_settings_that_never_change_take_no_panel():
    runs = [logged(seed, *({"step": step, "loss": 0.5, "temperature/kl": 1.0} for step in (5, 10))) for seed in (0, 1)]
    assert list(loss_parts_info(sample_record(runs=runs)).panels) == ["loss"]


def test_panel_shows_only_the_curricula_that_logged_the_part():
    panels = loss_parts_info(sample_record()).panels
    assert [curve.curriculum for curve in panels["objective/labels"]] == ["labels"]
    assert [curve.place for curve in panels["objective/kl"]] == [1, 2]


@pytest.mark.slow
def test_picture_grows_by_rows(tmp_path):
    info = loss_parts_info(sample_record())
    with Image.open(plot_loss_parts(info, tmp_path / "three.png")) as image:
        assert image.size == (1500, 450)
    four = info._replace(panels={**info.panels, "weight/kl": info.panels["objective/kl"]})
    with Image.open(plot_loss_parts(four, tmp_path / "four.png")) as image:
        assert image.size == (1500, 840)


def test_nothing_logged_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="logging_steps"):
        plot_loss_parts(loss_parts_info(labels_only_record()), tmp_path / "none.png")
