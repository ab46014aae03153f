from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from logit_cases import gradient_of, labels_for, logit_pair, values_of

from hf_distill.objectives import (
    DecoupledKD,
    ForwardKL,
    GeneralizedJSD,
    LogitCosine,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    SymmetricKL,
    TopKKL,
    TotalVariation,
    UncertaintySplit,
)
from hf_distill.objectives.distributions import (
    TemperedLogits,
    TemperedObjective,
    argmax_logits,
    kl_divergence,
    log_mixture,
    log_sum_exp,
)

INF = math.inf
ALL = [
    DecoupledKD,
    ForwardKL,
    GeneralizedJSD,
    LogitCosine,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    SymmetricKL,
    TopKKL,
    TotalVariation,
    UncertaintySplit,
]
WITH_ARGMAX_LIMIT = [ForwardKL, GeneralizedJSD, LogitCosine, SkewKL, SkewReverseKL, TopKKL, TotalVariation]
# Float32 numbers an outcome that wait for the backward pass: the student's log-probabilities, probabilities, ...
KEPT = {
    DecoupledKD: 3.5,
    ForwardKL: 2.5,
    GeneralizedJSD: 3.5,
    LogitCosine: 2.5,
    ReverseKL: 3.5,
    SkewKL: 4.5,
    SkewReverseKL: 5.5,
    SymmetricKL: 4.5,
    TopKKL: 2.5,
    TotalVariation: 2.5,
    UncertaintySplit: 3.5,
}
DETERMINING = [
    DecoupledKD(),
    ForwardKL(),
    GeneralizedJSD(beta=0.1),
    GeneralizedJSD(beta=0.9),
    LogitCosine(),
    ReverseKL(),
    SkewKL(),
    SkewReverseKL(),
    SkewReverseKL(detach_mixture=True),
    SymmetricKL(),
    UncertaintySplit(threshold=0.0),
]
WITHOUT = [cls for cls in ALL if cls not in WITH_ARGMAX_LIMIT]


def test_an_outcome_without_mass_makes_no_nan_in_either_gradient() -> None:
    log_p = torch.tensor([[-INF, 0.5, -INF]]).log_softmax(-1).requires_grad_()
    log_q = torch.tensor([[-INF, 1.0, 2.0]]).log_softmax(-1).requires_grad_()
    value = kl_divergence(log_p, log_q)
    value.sum().backward()
    torch.testing.assert_close(value, -log_q[:, 1])
    assert log_p.grad is not None and log_q.grad is not None
    assert log_q.grad.tolist() == [[0.0, -1.0, 0.0]]
    assert log_p.grad[0, [0, 2]].tolist() == [0.0, 0.0]


def test_mass_where_the_other_has_none_is_infinite_not_large() -> None:
    log_p, log_q = (torch.tensor([logits]).log_softmax(-1) for logits in ([0.0, 0.0], [0.0, -INF]))
    assert kl_divergence(log_p, log_q).item() == INF


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_a_mixture_of_two_ruled_out_outcomes_has_no_nan_gradient(weight: float) -> None:
    p, q = torch.tensor([[0.0, 0.25, 0.75, 0.0]]), torch.tensor([[0.0, 0.5, 0.0, 0.5]])
    log_q = q.log().requires_grad_()
    mixed = log_mixture(p.log(), log_q, weight)
    torch.testing.assert_close(mixed.exp(), weight * p + (1 - weight) * q, atol=1e-7, rtol=1e-6)
    (mixed.exp() * torch.arange(4.0)).sum().backward()
    torch.testing.assert_close(log_q.grad, (1 - weight) * q * torch.arange(4.0), atol=1e-7, rtol=1e-6)


def test_a_mixture_of_probabilities_too_small_for_float32_keeps_its_logarithm() -> None:
    log_p, log_q = torch.tensor([[-200.0]]), torch.tensor([[-300.0]])
    torch.testing.assert_close(log_mixture(log_p, log_q, 0.5), torch.tensor([[-200.0 + math.log(0.5)]]))


def test_the_log_of_a_sum_equals_torch_and_survives_rows_without_outcomes() -> None:
    logits = torch.tensor([[1.0, 2.0, -INF], [-300.0, -301.0, 400.0]], requires_grad=True)
    torch.testing.assert_close(log_sum_exp(logits).squeeze(-1), logits.logsumexp(-1), rtol=1e-6, atol=0.0)
    (gradient,) = torch.autograd.grad(log_sum_exp(logits).sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(-1).detach(), rtol=1e-5, atol=1e-7)
    empty = torch.full((1, 3), -INF, requires_grad=True)
    log_sum_exp(empty).sum().backward()
    assert log_sum_exp(empty).item() < -1e38
    assert empty.grad is not None and empty.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_arg_max_is_a_distribution_with_one_outcome() -> None:
    assert argmax_logits(torch.tensor([[1.0, 3.0, 2.0], [-INF, -2.0, -5.0]])).exp().tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("cls", ALL)
def test_the_teacher_is_not_trained(cls: type[TemperedObjective]) -> None:
    student, teacher = logit_pair()
    teacher.requires_grad_()
    student.requires_grad_()
    for temperature in (0.5, 1.0):
        values_of(cls(), student, teacher, labels_for(student), temperature=temperature).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


@pytest.mark.parametrize("cls", ALL)
def test_temperature_on_both_loses_neither_its_factor_nor_a_side(cls: type[TemperedObjective]) -> None:
    student, teacher = logit_pair()
    labels = labels_for(student)
    both = values_of(cls(temperature_on="both"), student, teacher, labels, temperature=2.5)
    one = values_of(cls(temperature_on="teacher"), student / 2.5, teacher, labels, temperature=2.5)
    torch.testing.assert_close(both, 2.5**2 * one, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("cls", ALL)
def test_temperature_on_the_teacher_leaves_the_student_alone(cls: type[TemperedObjective]) -> None:
    student, teacher = logit_pair()
    labels, objective = labels_for(student), cls(temperature_on="teacher")
    divided = values_of(objective, student, teacher / 3.0, labels)
    torch.testing.assert_close(values_of(objective, student, teacher, labels, temperature=3.0), divided)


@pytest.mark.parametrize("cls", WITH_ARGMAX_LIMIT)
def test_temperature_zero_is_where_small_temperatures_lead(cls: type[TemperedObjective]) -> None:
    student, teacher = logit_pair()
    objective = cls(temperature_on="teacher")
    limit = values_of(objective, student, teacher, temperature=0.0)
    near = values_of(objective, student, teacher, temperature=1e-3)
    torch.testing.assert_close(limit, near, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(
        gradient_of(objective, student, teacher, temperature=0.0),
        gradient_of(objective, student, teacher, temperature=1e-3),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("objective", [*(cls(temperature_on="teacher") for cls in WITHOUT), GeneralizedJSD(beta=1.0)])
def test_an_infinite_limit_is_refused_with_a_way_out(objective: TemperedObjective) -> None:
    student, teacher = logit_pair()
    with pytest.raises(
        ValueError, match=r"no limit at temperature 0\.0001: .*; give this term a temperature ≥ 0\.001"
    ):
        values_of(objective, student, teacher, labels_for(student), temperature=1e-4)


@pytest.mark.parametrize("cls", ALL)
def test_temperature_zero_on_both_is_refused_with_a_way_out(cls: type[TemperedObjective]) -> None:
    student, teacher = logit_pair()
    with pytest.raises(ValueError, match=r"no limit at temperature 0 .*temperature_on: teacher"):
        values_of(cls(temperature_on="both"), student, teacher, labels_for(student), temperature=0.0)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_that_both_rule_out_counts_for_nothing(cls: type[TemperedObjective], dtype: torch.dtype) -> None:
    student, teacher = (logits.to(dtype) for logits in logit_pair(classes=5))
    labels = labels_for(student)
    ruled_out = torch.full((student.shape[0], 1), -INF, dtype=dtype)
    wide = [torch.cat([logits, ruled_out], -1) for logits in (student, teacher)]
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(
        values_of(cls(), *wide, labels), values_of(cls(), student, teacher, labels), **tolerance
    )
    expected = F.pad(gradient_of(cls(), student, teacher, labels), (0, 1))
    torch.testing.assert_close(gradient_of(cls(), *wide, labels), expected, **tolerance)


@pytest.mark.parametrize("cls", [GeneralizedJSD, LogitCosine, SkewKL, SkewReverseKL, TotalVariation])
@pytest.mark.parametrize("swap", [False, True])
def test_bounded_objectives_stay_finite_where_only_one_side_rules_out(
    cls: type[TemperedObjective], swap: bool
) -> None:
    open_logits, closed = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, -INF]])
    student, teacher = (closed, open_logits) if swap else (open_logits, closed)
    assert values_of(cls(), student, teacher).isfinite().all()
    assert gradient_of(cls(), student, teacher).isfinite().all()


@pytest.mark.parametrize("cls", ALL)
def test_far_apart_logits_give_no_nan_in_float32(cls: type[TemperedObjective]) -> None:
    student = torch.tensor([[-400.0, 0.0, 400.0, 1.0], [1e4, -1e4, 0.0, 5.0]])
    teacher = torch.tensor([[400.0, 0.0, -400.0, 1.0], [1e4, 1e4, 0.0, -1e4]])
    labels = torch.tensor([0, 2])
    assert values_of(cls(), student, teacher, labels).isfinite().all()
    assert gradient_of(cls(), student, teacher, labels).isfinite().all()


@pytest.mark.parametrize("cls", ALL)
def test_a_batch_without_rows_gives_an_empty_sum_with_a_gradient(cls: type[TemperedObjective]) -> None:
    student = torch.zeros(0, 5, requires_grad=True)
    values = values_of(cls(), student, torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), temperature=2.0)
    values.sum().backward()
    assert values.shape == (0,)
    assert student.grad is not None


def test_formulas_show_on_which_side_the_temperature_is() -> None:
    assert ForwardKL().formula() == "KL(teacher/τ ‖ student)"
    assert ForwardKL(temperature_on="both").formula() == "τ²·KL(teacher/τ ‖ student/τ)"
    assert ReverseKL(temperature_on="both").formula() == "τ²·KL(student/τ ‖ teacher/τ)"


def test_half_precision_logits_are_divided_in_float32() -> None:
    raw = torch.tensor([[1.0, 2.0, -3.0]], dtype=torch.bfloat16)
    assert torch.equal(TemperedLogits(raw, 3.0).logits(), raw.float() / 3.0)
    assert TemperedLogits(raw.double(), 3.0).logits().dtype == torch.float64


def test_logits_at_temperature_one_are_not_copied() -> None:
    raw = torch.zeros(2, 3)
    assert TemperedLogits(raw).logits() is raw


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_needless_copies_wait_for_the_backward_pass(cls: type[TemperedObjective], dtype: torch.dtype) -> None:
    rows, classes = 8, 1024
    student, teacher = (logits.to(dtype) for logits in logit_pair(rows, classes))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        values_of(cls(), student.requires_grad_(), teacher, labels_for(student)).sum()
    assert sum(kept.values()) / (4 * rows * classes) <= KEPT[cls]


@pytest.mark.parametrize("objective", DETERMINING, ids=lambda objective: type(objective).__name__)
def test_a_student_free_to_agree_ends_at_the_teacher(objective: TemperedObjective) -> None:
    student, teacher = logit_pair(3, 5)
    labels = labels_for(student)

    def furthest() -> float:
        return values_of(TotalVariation(), student.detach(), teacher).max().item()

    assert furthest() > 0.5
    student.requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        values_of(objective, student, teacher, labels).sum().backward()
        optimizer.step()
    assert furthest() < 0.05
