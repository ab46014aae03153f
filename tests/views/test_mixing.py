"""Shares are drawn from the Beta distribution, and nobody is mixed with itself."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta, kstest

from hf_distill.views.mixing import check_alpha, draw_partners, draw_share


@pytest.mark.parametrize("examples", [2, 3, 8])
def test_no_example_is_its_own_partner(examples):
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        partners = draw_partners(examples)
        assert sorted(partners.tolist()) == list(range(examples))
        assert (partners != torch.arange(examples)).all()
        seen.add(int(partners[0]))
    assert seen == set(range(1, examples)), "every other example can be the partner"


def test_an_example_alone_has_nobody():
    assert draw_partners(1).tolist() == [0]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_its_distribution(alpha):
    torch.manual_seed(0)
    drawn = [draw_share(alpha) for _ in range(2000)]
    assert kstest(drawn, beta(alpha, alpha).cdf).pvalue > 0.01


def test_an_impossible_alpha_is_refused():
    check_alpha(0.1, view="mixup")
    with pytest.raises(ValueError, match="mixup: `alpha` must be positive, got 0; 1 draws every share equally often"):
        check_alpha(0.0, view="mixup")
