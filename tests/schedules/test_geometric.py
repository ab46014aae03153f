"""The geometric schedule: constant within an epoch, the published layer weights of information flow."""

from __future__ import annotations

import pytest

from hf_distill.schedules import Geometric

PUBLISHED = Geometric(start=100.0, ratio=0.7, epochs=50)


@pytest.mark.parametrize("epoch", range(50))
def test_every_epoch_has_its_published_weight(epoch):
    """100 · 0.7^epoch (arXiv 2005.00727), at the first step of an epoch and in its middle."""
    assert PUBLISHED(epoch / 50) == pytest.approx(100.0 * 0.7**epoch, rel=1e-12)
    assert PUBLISHED((epoch + 0.5) / 50) == pytest.approx(100.0 * 0.7**epoch, rel=1e-12)


def test_the_phases_are_those_of_the_paper():
    """About 2 at epoch 11; below 0.01 from epoch 26 on."""
    assert PUBLISHED(11 / 50) == pytest.approx(1.977, abs=1e-3)
    assert PUBLISHED(25 / 50) > 0.01 > PUBLISHED(26 / 50)


def test_the_last_step_of_all_is_in_the_last_epoch():
    assert PUBLISHED(1.0) == PUBLISHED(49 / 50)


@pytest.mark.parametrize("steps", [100, 150, 7 * 50])
def test_a_step_on_an_epochs_border_is_in_the_epoch_that_begins(steps):
    for epoch in range(50):
        assert PUBLISHED(epoch * steps // 50 / steps) == pytest.approx(100.0 * 0.7**epoch, rel=1e-12)


@pytest.mark.parametrize("change", [{"start": 0.0}, {"ratio": -1.0}, {"epochs": 0}])
def test_senseless_numbers_are_refused(change):
    with pytest.raises(ValueError, match="start > 0, ratio > 0 and epochs ≥ 1"):
        Geometric(**{"start": 1.0, "ratio": 0.5, "epochs": 3, **change})


def test_reports_name_base_and_ratio():
    assert PUBLISHED.formula() == "100·0.7^epoch of 50"
