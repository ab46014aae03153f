"""Terms of a block share softmaxes and memory without reading what another one has written over."""

from __future__ import annotations

import itertools

import pytest
import torch
from head_cases import CLOSED, OPEN, distance
from logit_cases import gradient_of, labels_for, logit_pair, values_of
from torch import Tensor

from hf_distill.kernels import RowTerm
from hf_distill.kernels.block_terms import BlockData, BlockTerms
from hf_distill.kernels.scratch import Scratch
from hf_distill.objectives import CrossEntropy, ForwardKL, GeneralizedJSD, LogitMSE, TotalVariation, XDivergence
from hf_distill.reading.signals import Signals

STUDENT_RV, TEACHER_RV = logit_pair(4, 9)
LABELS_R = labels_for(STUDENT_RV[:, :7])


def computed(terms: list[RowTerm], *, shared: int = 9, gradient: bool = True) -> tuple[Tensor, Tensor]:
    """The values, and the gradient of their weighted sum."""
    block_terms = BlockTerms(terms, shared=shared, own=9, gradient=gradient)
    values_Kr = torch.full((len(terms), 4), torch.nan, dtype=torch.float64)
    data = BlockData([STUDENT_RV.clone()], TEACHER_RV[:, :shared].clone(), LABELS_R, values_Kr)
    (found,) = block_terms.compute(data, Scratch(4, 9, like=STUDENT_RV))
    return values_Kr, found * block_terms.unit


def assert_is_the_sum(terms: list[RowTerm], *, shared: int = 9) -> None:
    values_Kr, total_rV = computed(terms, shared=shared)
    expected_rV = torch.zeros_like(STUDENT_RV)
    for term, values_r in zip(terms, values_Kr, strict=True):
        width = shared if term.needs_teacher else 9
        pair = STUDENT_RV[:, :width], TEACHER_RV[:, :width], LABELS_R
        assert distance(values_r, values_of(term.objective, *pair, temperature=term.temperature)) < 1e-12
        expected_rV[:, :width] += term.weight * gradient_of(term.objective, *pair, temperature=term.temperature)
    assert distance(total_rV, expected_rV) < 1e-12


@pytest.mark.parametrize(
    "pair", list(itertools.permutations(CLOSED[:4] + CLOSED[6:7] + CLOSED[9:10] + CLOSED[-1:] + OPEN[:1], 2)), ids=str
)
def test_no_term_sees_what_the_one_before_it_left_behind(pair):
    assert_is_the_sum([RowTerm(objective=pair[0], weight=0.4), RowTerm(objective=pair[1], weight=2.0)])


@pytest.mark.parametrize("shared", [9, 7])
def test_every_term_has_its_own_temperature_and_width(shared):
    terms = [
        RowTerm(objective=ForwardKL(), temperature=0.5),
        RowTerm(objective=CrossEntropy(label_smoothing=0.1), weight=0.2),
        RowTerm(objective=ForwardKL(temperature_on="both"), temperature=2.0, weight=-0.7),
        RowTerm(objective=GeneralizedJSD(beta=0.2), temperature=0.5),
        RowTerm(objective=TotalVariation(), temperature=3.0),
    ]
    assert_is_the_sum(terms, shared=shared)
    assert_is_the_sum(terms[::-1], shared=shared)


def test_ids_of_the_student_alone_get_no_gradient_from_the_teacher():
    _, total_rV = computed([RowTerm(objective=ForwardKL()), RowTerm(objective=LogitMSE())], shared=7)
    assert not total_rV[:, 7:].any()


def test_a_weight_of_zero_gives_values_and_no_gradient():
    values_Kr, total_rV = computed([RowTerm(objective=ForwardKL(), weight=0.0)])
    assert values_Kr.abs().sum() > 0
    assert torch.equal(total_rV * 0.0, torch.zeros_like(total_rV))
    mixed_Kr, mixed_rV = computed([RowTerm(objective=ForwardKL(), weight=0.0), RowTerm(objective=CrossEntropy())])
    assert distance(mixed_rV, gradient_of(CrossEntropy(), STUDENT_RV, TEACHER_RV, LABELS_R)) < 1e-12
    assert torch.equal(mixed_Kr[0], values_Kr[0])


def test_what_is_written_stays_near_one_where_weights_are_tiny():
    """Half precision holds the gradient before weight and denominator are multiplied in, not after."""
    terms = [RowTerm(objective=ForwardKL(), weight=1e-12), RowTerm(objective=CrossEntropy(), weight=-3e-12)]
    assert BlockTerms(terms, shared=9, own=9, gradient=True).unit == -3e-12


def test_values_without_gradients_are_the_same():
    terms = [RowTerm(objective=objective) for objective in (ForwardKL(), TotalVariation(), CrossEntropy())]
    assert torch.equal(computed(terms, gradient=False)[0], computed(terms)[0])


def test_passes_share_the_teacher_and_keep_their_gradients_apart():
    terms = [
        RowTerm(objective=CrossEntropy(), weight=0.5),
        RowTerm(objective=XDivergence(), weight=2.0),
        RowTerm(objective=ForwardKL(), weight=-1.5, temperature=2.0),
        RowTerm(objective=TotalVariation()),
    ]
    passes = [logit_pair(4, 9, seed=seed)[0] for seed in range(3)]
    block_terms = BlockTerms(terms, shared=7, own=9, gradient=True, passes=3)
    values_Kr = torch.full((4, 4), torch.nan, dtype=torch.float64)
    data = BlockData([one.clone() for one in passes], TEACHER_RV[:, :7].clone(), LABELS_R, values_Kr)
    found = [one * block_terms.unit for one in block_terms.compute(data, Scratch(4, 9, like=STUDENT_RV))]
    leaves = torch.stack(passes).requires_grad_()
    expected = []
    for term in terms:
        signals = [
            Signals(one, labels=LABELS_R, teacher_logits=TEACHER_RV, shared_width=7, student_passes=leaves)
            for one in (leaves[:1] if term.compares_passes else leaves)
        ]
        values = [term.objective.values(one, temperature=term.temperature) for one in signals]
        expected.append(torch.stack(values).mean(0))
    assert distance(values_Kr, torch.stack(expected).detach()) < 1e-12
    total = sum(term.weight * values.sum() for term, values in zip(terms, expected, strict=True))
    (gradient_KRV,) = torch.autograd.grad(total, leaves)
    assert distance(torch.stack(found), gradient_KRV) < 1e-12
