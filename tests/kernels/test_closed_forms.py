"""Gradients worked out by hand are those of the objectives, with scratch memory wherever it may lie."""

from __future__ import annotations

import pytest
import torch
from head_cases import CLOSED, distance
from logit_cases import gradient_of, labels_for, logit_pair, values_of
from torch import Tensor

from hf_distill.kernels.closed_forms import CLOSED_FORMS, Block, Distribution
from hf_distill.objectives import CrossEntropy, GeneralizedJSD, Objective, SkewKL, SkewReverseKL

STUDENT_RV, TEACHER_RV = logit_pair(4, 7)
LABELS_R = labels_for(STUDENT_RV)


def distribution(logits_RV: Tensor) -> Distribution:
    log_RV = logits_RV.log_softmax(-1)
    return Distribution(log_RV, log_RV.exp())


def block_of(
    student_RV: Tensor = STUDENT_RV, teacher_RV: Tensor = TEACHER_RV, *, spare: bool, gradient: bool
) -> Block:
    p, q = distribution(teacher_RV), distribution(student_RV)
    unknown = [torch.full_like(p.log_rV, torch.nan) for _ in range(4)]
    work_p, work_q, out = (p.log_rV, q.log_rV, q.prob_rV) if spare else unknown[:3]
    return Block(p, q, LABELS_R, work_p, work_q, unknown[3], out, gradient)


@pytest.mark.parametrize("spare", [True, False], ids=["written over", "kept"])
@pytest.mark.parametrize("objective", CLOSED, ids=lambda objective: objective.formula())
def test_value_and_gradient_are_the_objectives(objective: Objective, spare: bool):
    block = block_of(spare=spare, gradient=True)
    form = CLOSED_FORMS[type(objective)](objective, block)
    expected = values_of(objective, STUDENT_RV, TEACHER_RV, LABELS_R)
    assert distance(form.values_r, expected) < 1e-12
    assert distance(block.out * form.factor, gradient_of(objective, STUDENT_RV, TEACHER_RV, LABELS_R)) < 1e-12


@pytest.mark.parametrize("objective", CLOSED, ids=lambda objective: objective.formula())
def test_the_value_does_not_depend_on_whether_a_gradient_is_wanted(objective: Objective):
    form = CLOSED_FORMS[type(objective)](objective, block_of(spare=True, gradient=False))
    assert distance(form.values_r, values_of(objective, STUDENT_RV, TEACHER_RV, LABELS_R)) < 1e-12


@pytest.mark.parametrize("objective", CLOSED, ids=lambda objective: objective.formula())
def test_distributions_that_another_term_reads_are_left_alone(objective: Objective):
    block = block_of(spare=False, gradient=True)
    CLOSED_FORMS[type(objective)](objective, block)
    for kept, logits_RV in ((block.p, TEACHER_RV), (block.q, STUDENT_RV)):
        assert kept is not None
        fresh = distribution(logits_RV)
        assert torch.equal(kept.log_rV, fresh.log_rV) and torch.equal(kept.prob_rV, fresh.prob_rV)


@pytest.mark.parametrize("objective", [GeneralizedJSD(beta=0.3), SkewKL(), SkewReverseKL()], ids=str)
def test_a_mixture_of_two_underflows_is_not_nan(objective: Objective):
    """Both models rule an id out so firmly that float32 has 0: the logarithm of the mixture must stay finite."""
    student_RV, teacher_RV = STUDENT_RV.float(), TEACHER_RV.float()
    student_RV, teacher_RV = student_RV.clone(), teacher_RV.clone()
    student_RV[:, 2], teacher_RV[:, 2] = -200.0, -300.0
    block = block_of(student_RV, teacher_RV, spare=True, gradient=True)
    form = CLOSED_FORMS[type(objective)](objective, block)
    expected = gradient_of(objective, student_RV.double(), teacher_RV.double())
    assert distance(block.out * form.factor, expected) < 1e-6
    assert distance(form.values_r, values_of(objective, student_RV.double(), teacher_RV.double())) < 1e-6


def test_a_row_without_a_label_has_neither_loss_nor_gradient():
    labels_R = LABELS_R.clone()
    labels_R[1] = -100
    block = block_of(spare=True, gradient=True)._replace(labels_r=labels_R)
    form = CLOSED_FORMS[CrossEntropy](CrossEntropy(label_smoothing=0.1), block)
    assert form.values_r[1] == 0.0 and not block.out[1].any()
    assert form.values_r[0] > 0.0 and block.out[0].any()
