"""The front holds what nothing beats at its cost, whichever way the metric goes, and the picture names every point."""

from __future__ import annotations

import pytest
from evaluated import sample_evaluation
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_distill.report.evaluation_rows import evaluated_table
from hf_distill.report.pareto import ParetoInfo, pareto_front, pareto_info, plot_pareto, point_colour

POINTS = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(0, 6).map(float)), min_size=1, max_size=12)


def test_front_by_hand():
    points = [(1.0, 0.5), (1.0, 0.6), (2.0, 0.6), (3.0, 0.9), (4.0, 0.8)]
    assert pareto_front(points, greater_is_better=True) == (1, 3)
    assert pareto_front(points, greater_is_better=False) == (0,)
    assert pareto_front([], greater_is_better=True) == ()


@given(points=POINTS, greater=st.booleans())
@settings(derandomize=True, deadline=None)
def test_a_point_is_on_the_front_exactly_where_no_other_beats_it(points, greater):
    sign = 1 if greater else -1
    front = pareto_front(points, greater_is_better=greater)

    def beaten(place):
        cost, quality = points[place]
        return any(
            (c <= cost and sign * q >= sign * quality) and ((c, q) != (cost, quality) or other < place)
            for other, (c, q) in enumerate(points)
            if other != place
        )

    assert set(front) == {place for place in range(len(points)) if not beaten(place)}
    assert [points[place][0] for place in front] == sorted({points[place][0] for place in front})


def test_points_are_the_rows_with_their_spreads():
    info = pareto_info(evaluated_table(sample_evaluation()))
    assert info.cost == "latency"
    assert info.cost_text == "latency of 1 × 32 tokens on cpu, 2 threads"
    by_label = {point.label: point for point in info.points}
    student = by_label["two_shot"]
    assert (student.cost, student.cost_low, student.cost_high) == pytest.approx((0.002, 0.0019, 0.0022))
    assert (student.quality, student.quality_low, student.quality_high) == pytest.approx((0.80, 0.79, 0.81))
    assert [info.points[place].label for place in info.front] == ["two_shot", "teacher, checkpoint-160"]


def test_without_timings_the_cost_is_the_number_of_parameters():
    info = pareto_info(evaluated_table(sample_evaluation(timings=[])))
    assert (info.cost, info.cost_text) == ("parameters", "parameters")
    assert {point.cost for point in info.points} == {1e5, 3e5, 1e6}
    timed = evaluated_table(sample_evaluation())
    assert pareto_info(timed, cost="parameters").points == info.points


def test_points_of_curricula_keep_their_colours_and_others_have_none():
    info = pareto_info(evaluated_table(sample_evaluation()))
    colours = {point.label: point_colour(point) for point in info.points}
    assert len(set(colours.values())) == 5


@pytest.mark.parametrize("timings", [True, False])
def test_the_picture_has_its_size(tmp_path, timings):
    evaluation = sample_evaluation() if timings else sample_evaluation(timings=[])
    path = plot_pareto(pareto_info(evaluated_table(evaluation)), tmp_path / "pareto.png")
    assert Image.open(path).size == (1500, 870)


def test_equal_points_and_a_single_one_are_drawn(tmp_path):
    info = pareto_info(evaluated_table(sample_evaluation()))
    for points in (info.points[:1], info.points[:1] * 3):
        path = plot_pareto(info._replace(points=points, front=(0,)), tmp_path / "one.png")
        assert path.is_file()


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no model has both a metric and a cost"):
        plot_pareto(ParetoInfo("accuracy", True, "latency", "", (), ()), tmp_path / "none.png")


def test_no_name_is_cut_at_the_edge_however_long_the_bars(tmp_path):
    evaluation = sample_evaluation()
    for timing in evaluation.timings:
        if timing.shape == "large":
            timing.quartile_seconds = (timing.median_seconds, 9 * timing.median_seconds)
    path = plot_pareto(pareto_info(evaluated_table(evaluation)), tmp_path / "pareto.png")
    edge = Image.open(path).convert("L").crop((1494, 0, 1500, 870))
    assert edge.getextrema() == (255, 255)
