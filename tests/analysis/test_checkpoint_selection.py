"""The revision in the middle of a teacher's sharp drop, on curves whose middle is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from hf_distill.analysis.checkpoint_selection import plot_transition, transition_info


def sigmoid_losses(steps, *, plateau=0.693, final=0.02, centre=3000, width=150):
    return [final + (plateau - final) / (1 + math.exp((step - centre) / width)) for step in steps]


@pytest.mark.parametrize(("plateau", "final"), [(0.693, 0.02), (1.03, 0.04), (6.4, 2.2)])
def test_middle_of_a_sigmoid_is_chosen_whatever_its_height(plateau, final):
    steps = list(range(100, 6001, 100))
    info = transition_info(steps, sigmoid_losses(steps, plateau=plateau, final=final))
    assert info.steps[info.chosen] == 3000
    assert info.plateau == pytest.approx(plateau, rel=1e-3)
    assert info.final == pytest.approx(final, rel=1e-3)
    assert info.midpoint == pytest.approx((plateau + final) / 2, rel=1e-3)
    # Logistic: 90 % and 10 % lie ln 9 widths (330 steps) from the centre.
    assert [info.steps[index] for index in info.inside] == [2700, 2800, 2900, 3000, 3100, 3200, 3300]
    assert abs(info.steps[info.steepest] - 3000) <= 100
    assert not info.is_final


def test_of_two_equally_near_revisions_the_later_is_chosen():
    info = transition_info([100, 200, 300, 400], [1.0, 0.75, 0.25, 0.0])
    assert info.midpoint == 0.5
    assert info.chosen == 2


def test_gap_in_the_checkpoints_takes_the_first_after_the_drop_and_says_so():
    info = transition_info([100, 200, 300, 400, 500], [0.69, 0.69, 0.68, 0.03, 0.02])
    assert info.inside == ()
    assert info.chosen == 3
    assert "no revision lies in the sharp drop" in info.reason
    assert not info.is_final


def test_choosing_the_final_teacher_itself_is_announced():
    info = transition_info([100, 200], [0.69, 0.02])
    assert info.is_final
    assert "two-shot would be one-shot" in info.reason


def test_noise_on_the_plateau_and_a_spike_in_the_tail_do_not_move_the_choice():
    steps = list(range(100, 5001, 100))
    noise = np.random.default_rng(0).normal(0, 0.004, len(steps))
    losses = [loss + float(bump) for loss, bump in zip(sigmoid_losses(steps), noise, strict=True)]
    losses[-5] = 0.36  # a diverged batch late in training, right at the midpoint
    info = transition_info(steps, losses)
    assert info.steps[info.chosen] in (2900, 3000, 3100)
    assert max(info.inside) < len(steps) - 5


def test_bump_at_the_start_is_not_taken_for_the_plateau():
    # Shape of a wide parity teacher: overconfident at first, then guessing, then the drop.
    losses = [0.96, 0.91, 0.81, 0.92, *[0.73, 0.72, 0.74, 0.80] * 6, 0.71, 0.64, 0.53, 0.39, 0.20, 0.08, 0.02, 0.01]
    steps = [100 * (index + 1) for index in range(len(losses))]
    info = transition_info(steps, losses)
    assert info.plateau == pytest.approx(0.74, abs=0.02)
    assert [info.losses[index] for index in info.inside] == [0.64, 0.53, 0.39, 0.20, 0.08][: len(info.inside)]
    assert len(info.inside) in (4, 5)
    assert info.losses[info.chosen] == 0.39


def test_slow_tail_does_not_count_as_the_drop():
    steps = [200, 400, 600, 800, 1000, 1200, 2000, 4000, 8000]
    losses = [1.03, 1.03, 1.02, 0.78, 0.52, 0.35, 0.17, 0.08, 0.04]  # PCFG teacher, shape of the published curve
    info = transition_info(steps, losses)
    assert info.steps[info.chosen] == 1000


def test_untrained_model_at_step_0_is_not_taken_for_the_plateau():
    steps = [0, 100, 200, 300, 400, 500]
    info = transition_info(steps, [10.8, 6.4, 6.4, 4.3, 2.4, 2.2])
    assert info.plateau == pytest.approx(6.4)
    assert info.chosen == 3


def test_given_plateau_overrides_the_measured_one():
    steps, losses = [100, 200, 300, 400], [0.9, 0.6, 0.3, 0.0]
    assert transition_info(steps, losses).chosen == 2
    assert transition_info(steps, losses, plateau=1.3).chosen == 1


@pytest.mark.parametrize(
    ("steps", "losses", "match"),
    [
        ([100], [0.5], "at least 2"),
        ([100, 200], [0.69, float("nan")], "step 200 is nan"),
        ([100, 200], [None, 0.1], "step 100 is None"),
        ([200, 100], [0.69, 0.1], "sort the revisions"),
        ([100, 200, 300], [0.69, 0.1], "3 steps but 2 losses"),
        ([100, 200, 300], [0.693, 0.692, 0.690], "has not learnt"),
        ([100, 200, 300], [0.02, 0.30, 0.69], "has not learnt"),
    ],
)
def test_curves_without_a_choice_are_refused(steps, losses, match):
    with pytest.raises(ValueError, match=match):
        transition_info(steps, losses)


def test_metric_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 steps but 1 metric"):
        transition_info([1, 2], [0.7, 0.1], metric=[0.5])


def test_noise_alone_is_not_a_drop():
    steps = list(range(100, 3001, 100))
    losses = 0.69 + np.random.default_rng(1).normal(0, 0.02, len(steps))
    with pytest.raises(ValueError, match="no clear drop"):
        transition_info(steps, losses.tolist())


@pytest.mark.parametrize("x_scale", ["linear", "log"])
def test_picture_of_the_choice_is_written(tmp_path, x_scale):
    steps = list(range(0, 6001, 250))
    path = plot_transition(transition_info(steps, sigmoid_losses(steps)), tmp_path / "curve.png", x_scale=x_scale)
    with Image.open(path) as image:
        assert image.size == (1200, 675)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
