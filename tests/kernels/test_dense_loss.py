"""The reference: what its loss is made of."""

from __future__ import annotations

import torch
from head_cases import head_case

from hf_distill.kernels import RowTerm, dense_loss
from hf_distill.objectives import CrossEntropy, ForwardKL
from hf_distill.reading.signals import Signals


def test_the_loss_is_the_weighted_and_scaled_sum_of_the_objectives():
    case = head_case(softcap=2.0, teacher_vocabulary=30, shared_width=20)
    terms = [
        RowTerm(objective=ForwardKL(), weight=0.3, temperature=2.0),
        RowTerm(objective=CrossEntropy(), weight=0.7),
    ]
    made = case.loss(dense_loss, terms)
    signals = Signals(case.student.logits(), case.labels_R, case.teacher.logits(), shared_width=20)
    divergence_R = ForwardKL().values(signals, temperature=2.0)
    entropy_R = CrossEntropy().values(signals, temperature=1.0)
    torch.testing.assert_close(made.values_KR, torch.stack([divergence_R, entropy_R]))
    torch.testing.assert_close(made.loss, (case.scale * (0.3 * divergence_R + 0.7 * entropy_R)).sum())
    assert made.loss.requires_grad and not made.values_KR.requires_grad
