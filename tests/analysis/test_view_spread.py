"""T. stddev against numbers worked out by hand and another way to compute it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from hf_distill.analysis.view_spread import ViewSpreadInfo, mean_probabilities, plot_view_spread, view_spread_info


def test_the_mean_answer_is_a_distribution():
    logits = torch.randn(7, 5, dtype=torch.bfloat16)
    means = mean_probabilities(logits)
    assert means.dtype == torch.float64
    np.testing.assert_allclose(means.numpy(), logits.float().softmax(-1).numpy().mean(0), rtol=1e-6)
    with pytest.raises(ValueError, match="this step has no counted row"):
        mean_probabilities(logits[:0])


def test_spread_by_hand():
    """Blocks (.5, .5), (.7, .3) and (.9, .1): deviations √(.08/3) for both classes."""
    steps = torch.tensor([[0.4, 0.6], [0.6, 0.4], [0.7, 0.3], [0.7, 0.3], [1.0, 0.0], [0.8, 0.2], [0.0, 1.0]])
    info = view_spread_info(steps, block=2)
    assert info.spread == pytest.approx(math.sqrt(0.08 / 3), rel=1e-6)
    assert (info.blocks, info.block) == (3, 2)
    # Without one block the deviation is half the distance of the other two.
    left_out = np.array([0.1, 0.2, 0.1])
    assert info.error == pytest.approx(math.sqrt(2 / 3 * ((left_out - left_out.mean()) ** 2).sum()), rel=1e-6)


def test_spread_of_many_classes_is_that_of_numpy():
    means = torch.randn(63, 11, dtype=torch.float64).softmax(-1)
    info = view_spread_info(list(means), block=5)
    blocks = means[:60].numpy().reshape(12, 5, 11).mean(1)
    assert info.spread == pytest.approx(blocks.std(0).mean(), rel=1e-10)
    left_out = np.array([np.delete(blocks, place, 0).std(0).mean() for place in range(12)])
    assert info.error == pytest.approx(math.sqrt(11 / 12 * ((left_out - left_out.mean()) ** 2).sum()), rel=1e-8)


def test_a_teacher_that_never_wavers_has_no_spread():
    info = view_spread_info(torch.full((10, 4), 0.25), block=5)
    assert (info.spread, info.error, info.blocks) == (0.0, 0.0, 2)


@pytest.mark.parametrize(("steps", "block"), [(9, 5), (0, 5), (4, 0)])
def test_one_block_is_not_enough(steps, block):
    means = torch.rand(steps, 3) if steps else torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"steps make [01] blocks of \d, and two are needed; take more steps"):
        view_spread_info(means, block=block)


def test_the_picture_has_its_size(tmp_path):
    infos = {name: ViewSpreadInfo(spread, 0.001, 40, 5) for name, spread in (("none", 0.02), ("mixup(alpha=1)", 0.01))}
    path = plot_view_spread(infos, tmp_path / "views.png", marked=["mixup(alpha=1)"])
    assert Image.open(path).size == (1100, 270)
