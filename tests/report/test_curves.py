"""Learning curves: medians over seeds, bands, switches, and a picture of the size promised."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image
from sample_records import labels_only_record, sample_record, student

from hf_distill.report.curves import Switch, learning_curves_info, plot_learning_curves, runs_by_curriculum
from hf_distill.run_record import StageRecord


def with_history(seed, points, **changes):
    run = student("two_shot", seed, revisions=["step-3200", "step-5000"])
    return dataclasses.replace(run, history=[{"step": step, "accuracy": value} for step, value in points], **changes)


def test_median_and_band_are_taken_over_the_seeds_evaluated_at_each_step():
    runs = [
        with_history(0, [(10, 0.5), (20, 0.9)]),
        with_history(1, [(10, 0.6), (20, 0.7)]),
        with_history(2, [(10, 0.7), (20, None)]),  # the metric was not finite there
    ]
    (curve,) = learning_curves_info(sample_record(runs=runs)).curves
    assert curve.steps == (10, 20)
    assert curve.median == pytest.approx((0.6, 0.8))
    assert curve.low == pytest.approx((0.5, 0.7))
    assert curve.high == pytest.approx((0.7, 0.9))
    assert curve.seeds[2] == ((10, 0.7),)


def test_curricula_keep_the_order_of_the_recipe_because_it_fixes_their_colours():
    info = learning_curves_info(sample_record())
    assert [(curve.curriculum, curve.place) for curve in info.curves] == [
        ("labels", 0),
        ("one_shot", 1),
        ("two_shot", 2),
    ]
    assert list(runs_by_curriculum(sample_record())) == ["labels", "one_shot", "two_shot"]


def test_reference_lines_come_from_the_record():
    info = learning_curves_info(sample_record())
    assert (info.teacher, info.level, info.chance) == (0.9985, 0.99, 0.5)
    assert learning_curves_info(sample_record(), chance=0.25).chance == 0.25
    bare = learning_curves_info(labels_only_record())
    assert (bare.teacher, bare.level, bare.chance) == (None, None, None)


def test_first_stage_is_no_switch_and_seeds_switching_together_share_one():
    labels, one_shot, two_shot = learning_curves_info(sample_record()).curves
    assert labels.switches == one_shot.switches == ()
    assert two_shot.switches == (Switch(300, "step-5000", (0, 1, 2)),)


def test_adaptive_switches_are_told_apart_by_seed():
    def stages(step):
        return [
            StageRecord(name="a", start=0, end=step, revision="step-3200", terms=["KL"]),
            StageRecord(name="b", start=step, end=900, revision=None, terms=["H"]),
        ]

    runs = [with_history(seed, [(10, 0.5)], stages=stages(step)) for seed, step in ((0, 220), (1, 180), (2, 220))]
    (curve,) = learning_curves_info(sample_record(runs=runs)).curves
    assert curve.switches == (Switch(180, None, (1,)), Switch(220, None, (0, 2)))


@pytest.mark.parametrize(
    "record",
    [
        sample_record(),
        labels_only_record(),
        sample_record(runs=[with_history(0, [(5, 0.5)])]),
        sample_record(runs=[with_history(0, [])]),
        sample_record(runs=[student("n_shot", 0, revisions=[f"step-{step}" for step in range(12)])]),
    ],
    ids=["comparison", "labels only", "one point", "no point", "many switches"],
)
def test_picture_is_drawn_for_any_record(tmp_path, record):
    path = plot_learning_curves(learning_curves_info(record), tmp_path / "curves.png")
    with Image.open(path) as image:
        assert image.size == (1500, 780)
    assert path.stat().st_size > 5000
