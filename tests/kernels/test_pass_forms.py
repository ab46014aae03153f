"""The gradient of a disagreement between passes, worked out by hand, is that of the objective."""

from __future__ import annotations

import pytest
import torch
from head_cases import distance

from hf_distill.kernels.closed_forms import Distribution
from hf_distill.kernels.pass_forms import PASS_FORMS, PassBlock
from hf_distill.kernels.scratch import Scratch
from hf_distill.objectives import XDivergence
from hf_distill.reading.signals import Signals


def logits(passes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2.0 * torch.randn(passes, 4, 7, generator=generator, dtype=torch.float64)


def block_of(logits_KRV: torch.Tensor, *, in_place: bool, gradient: bool = True) -> PassBlock:
    log_KRV = logits_KRV.log_softmax(-1)
    distributions = [Distribution(one, one.exp()) for one in log_KRV]
    outs = [one.prob_rV if in_place else torch.full_like(one.prob_rV, torch.nan) for one in distributions]
    return PassBlock(distributions, Scratch(4, 7, like=log_KRV), outs, gradient)


@pytest.mark.parametrize("in_place", [True, False], ids=["over the probabilities", "apart"])
@pytest.mark.parametrize("passes", [2, 3, 5])
def test_value_and_gradients_are_the_objectives(passes, in_place):
    leaves = logits(passes).requires_grad_()
    values_R = XDivergence().values(Signals(student_passes=leaves), temperature=1.0)
    (expected_KRV,) = torch.autograd.grad(values_R.sum(), leaves)
    block = block_of(leaves.detach(), in_place=in_place)
    form = PASS_FORMS[XDivergence](XDivergence(), block)
    assert distance(form.values_r, values_R.detach()) < 1e-12
    assert distance(torch.stack(list(block.outs)) * form.factor, expected_KRV) < 1e-12


def test_the_value_does_not_depend_on_whether_a_gradient_is_wanted():
    with_gradient = PASS_FORMS[XDivergence](XDivergence(), block_of(logits(3), in_place=False))
    without = PASS_FORMS[XDivergence](XDivergence(), block_of(logits(3), in_place=False, gradient=False))
    assert torch.equal(with_gradient.values_r, without.values_r)


def test_passes_that_agree_are_nothing_apart():
    same = logits(1).expand(3, -1, -1)
    block = block_of(same, in_place=False)
    form = PASS_FORMS[XDivergence](XDivergence(), block)
    assert form.values_r.abs().max() < 1e-14
    assert max(float(out.abs().max()) for out in block.outs) < 1e-14
