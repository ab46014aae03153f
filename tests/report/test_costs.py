"""Costs: medians over seeds; what was not measured stays unknown instead of zero."""

from __future__ import annotations

import pytest
from PIL import Image
from sample_records import labels_only_record, sample_record

from hf_distill.report.costs import costs_info, plot_costs


def test_costs_are_medians_over_seeds():
    labels, one_shot, two_shot = costs_info(sample_record())
    assert (labels.curriculum, labels.place) == ("labels", 0)
    assert labels.seconds == pytest.approx(3.3)
    assert two_shot.seconds == pytest.approx(5.5)
    assert one_shot.teacher_share == pytest.approx(0.31)
    assert two_shot.examples_per_second == pytest.approx(18000)


def test_cost_that_was_not_measured_is_unknown():
    record = sample_record()
    for run in record.runs:
        run.costs.pop("teacher_share")
        run.costs["peak_memory_bytes"] = None
    assert all(costs.teacher_share is None and costs.peak_memory_bytes is None for costs in costs_info(record))


def test_picture_has_a_bar_for_each_measured_curriculum(tmp_path):
    record = sample_record()
    for run in record.runs[:3]:
        run.costs = {}
    with Image.open(plot_costs(costs_info(record), tmp_path / "costs.png")) as image:
        assert image.size == (1500, 75 * 2 + 195)


def test_no_measured_time_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no run of this record has a measured time"):
        plot_costs(costs_info(labels_only_record()), tmp_path / "costs.png")
