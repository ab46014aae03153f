"""What holds for every registered objective on hidden states or attentions: padding, gradients, splits, equality."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from feature_cases import (
    EXAMPLES,
    LENGTHS,
    TOKENS,
    attended,
    layer_pair,
    positions,
    reads_attentions,
    signals_of,
    values_of,
)
from tiers import mostly_slow
from torch import Tensor

from hf_distill.objectives import OBJECTIVES, FeatureObjective
from hf_distill.reading.signals import Signals

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "attention_kl": [{}, {"over_heads": "mean"}],
    "hidden_cosine": [{}],
    "hidden_mse": [{}],
    "pkt": [{}, {"kernels": "cosine"}, {"kernels": "student_t"}, {"divergence": "kl"}],
    "relation_kl": [{}, {"relation_heads": 2}],
    "rkd": [{}, {"angle": 0.0}, {"distance": 0.0}],
    "similarity_preserving": [{}],
}
CASES = mostly_slow(
    [
        pytest.param(name, fields, id="-".join([name, *map(str, fields.values())]))
        for name, variants in VARIANTS.items()
        for fields in variants
    ],
    quick=lambda name, fields: not fields,
)
EVERY_CASE = pytest.mark.parametrize(("name", "fields"), CASES)
INVARIANT = [case for case in CASES if OBJECTIVES.get(case.values[0])(**case.values[1]).partition_invariant]
BATCH_RELATIONAL = [case for case in CASES if case not in INVARIANT]
PRECISIONS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def gradient_of(name: str, student: Tensor, teacher: Tensor, **fields: Any) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    values = values_of(name, student, teacher, **fields)
    return values.detach(), torch.autograd.grad(values.sum(), student)[0]


def unread(name: str, like: Tensor) -> Tensor:
    """Where padding stands: whole positions of states, queries and keys of attentions."""
    padding = attended() == 0
    if reads_attentions(name):
        return (padding[:, None, :, None] | padding[:, None, None, :]).expand_as(like)
    return padding.unsqueeze(-1).expand_as(like)


def test_every_objective_on_layers_is_here():
    registered = {name for name in OBJECTIVES if issubclass(OBJECTIVES.get(name), FeatureObjective)}
    assert registered == set(VARIANTS)


@EVERY_CASE
def test_fields_explain_themselves_and_the_formula_is_short(name, fields):
    objective = OBJECTIVES.build({"name": name, **fields, "layers": [[1, 2], [2, 4]]}, path="x")
    assert all(field.metadata.get("help") for field in dataclasses.fields(objective))
    assert "[[1, 2], [2, 4]]" in objective.formula()
    assert 0 < len(objective.formula()) < 80
    assert objective.__doc__ and "Shapes" in objective.__doc__ and "Source" in objective.__doc__


@EVERY_CASE
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_values_and_gradients_are_finite_in_every_precision(name, fields, dtype):
    student, teacher = layer_pair(name, dtype=dtype)
    if not reads_attentions(name):
        student = student * 100.0
        student[0, 0], student[1] = 0.0, student[0, 1]  # a state of length 0, and equal ones
    else:
        student[0, :, 0] = torch.eye(5, dtype=dtype)[0]  # no probability where the teacher has some
    values, gradient = gradient_of(name, student, teacher, **fields)
    assert values.shape == ((TOKENS,) if OBJECTIVES.get(name).unit == "token" else (EXAMPLES,))
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


@EVERY_CASE
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_padding_cannot_matter(name, fields, garbage):
    student, teacher = layer_pair(name)
    dirty = [layer.masked_fill(unread(name, layer), garbage) for layer in (student, teacher)]
    values, gradient = gradient_of(name, student, teacher, **fields)
    same_values, same_gradient = gradient_of(name, *dirty, **fields)
    assert torch.equal(values, same_values)
    assert torch.equal(gradient, same_gradient)
    assert (same_gradient[unread(name, student)] == 0).all()


@EVERY_CASE
def test_the_gradient_is_that_of_the_value(name, fields):
    student, teacher = layer_pair(name)
    assert torch.autograd.gradcheck(
        lambda layer: values_of(name, layer, teacher, **fields), student.requires_grad_(), atol=1e-6
    )


@EVERY_CASE
def test_no_gradient_reaches_the_teacher_and_nothing_is_written_to(name, fields):
    student, teacher = (layer.requires_grad_() for layer in layer_pair(name))
    before = student.detach().clone(), teacher.detach().clone()
    values_of(name, student, teacher, **fields).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert torch.equal(student.detach(), before[0])
    assert torch.equal(teacher.detach(), before[1])


@EVERY_CASE
def test_equal_layers_have_distance_zero_and_a_flat_gradient(name, fields):
    _, teacher = layer_pair(name)
    values, gradient = gradient_of(name, teacher, teacher, **fields)
    assert values.abs().max() < 1e-12
    # A probability's own gradient has a constant that softmax takes away: it is flat along what sums to one.
    if reads_attentions(name):
        gradient = (gradient - gradient.mean(-1, keepdim=True))[0]
    assert gradient.abs().max() < 1e-12


@EVERY_CASE
def test_a_distance_is_not_negative_and_is_seen_where_layers_differ(name, fields):
    for seed in range(5):
        values = values_of(name, *layer_pair(name, seed=seed), **fields)
        assert values.min() >= -1e-12
        assert values.mean() > 1e-4


@EVERY_CASE
def test_the_order_of_examples_does_not_matter(name, fields):
    student, teacher = layer_pair(name)
    order = torch.tensor([2, 0, 3, 1])
    values = values_of(name, student, teacher, **fields)
    moved = values_of(name, student[order], teacher[order], attended()[order], **fields)
    by_example = values.split(list(LENGTHS)) if OBJECTIVES.get(name).unit == "token" else values.split(1)
    torch.testing.assert_close(moved, torch.cat([by_example[index] for index in order]), rtol=1e-12, atol=1e-12)


def parts_and_whole(name: str, fields: dict[str, Any]) -> tuple[float, float]:
    student, teacher = layer_pair(name)
    cut = [slice(None, 2), slice(2, None)]
    parts = [values_of(name, student[part], teacher[part], attended()[part], **fields).sum().item() for part in cut]
    return sum(parts), values_of(name, student, teacher, **fields).sum().item()


@pytest.mark.parametrize(("name", "fields"), INVARIANT)
def test_two_parts_of_a_batch_add_up_to_the_whole(name, fields):
    parts, whole = parts_and_whole(name, fields)
    assert parts == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("name", "fields"), BATCH_RELATIONAL)
def test_an_objective_that_says_it_depends_on_the_micro_batch_does(name, fields):
    parts, whole = parts_and_whole(name, fields)
    assert parts != pytest.approx(whole, rel=1e-3)
    assert "micro-batch" in (OBJECTIVES.get(name).__doc__ or ""), "its documentation must say so"


@EVERY_CASE
def test_no_examples_give_no_values_and_one_gives_a_number(name, fields):
    student, teacher = layer_pair(name)
    none = values_of(name, student[:0], teacher[:0], attended()[:0], **fields)
    one = values_of(name, student[1:2], teacher[1:2], attended()[1:2], **fields)
    assert none.shape == (0,)
    assert one.isfinite().all()


@EVERY_CASE
def test_several_layers_have_the_mean_of_their_values(name, fields):
    pairs = [layer_pair(name, seed=seed) for seed in range(3)]
    kind = "attentions" if reads_attentions(name) else "layers"
    several = Signals(**{kind: tuple(getattr(signals_of(name, *pair), kind)[0] for pair in pairs)})
    values = OBJECTIVES.build({"name": name, **fields}, path="x").values(several, temperature=1.0)
    each = torch.stack([values_of(name, *pair, **fields) for pair in pairs])
    torch.testing.assert_close(values, each.mean(0), rtol=1e-12, atol=1e-15)


@EVERY_CASE
def test_autocast_does_not_take_the_products_in_half_precision(name, fields):
    student, teacher = layer_pair(name, dtype=torch.float32)
    exact = values_of(name, student, teacher, **fields)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(values_of(name, student, teacher, **fields), exact)


@EVERY_CASE
def test_a_stage_that_reads_no_layers_is_named(name, fields):
    objective = OBJECTIVES.build({"name": name, **fields}, path="x")
    with pytest.raises(ValueError, match="the stage reads none"):
        objective.values(Signals(student_logits=torch.zeros(2, 3)), temperature=1.0)


def test_values_stand_in_the_order_of_attended_positions():
    student, teacher = layer_pair("hidden_mse")
    values = values_of("hidden_mse", student, teacher)
    expected = [(student[b, t] - teacher[b, t]).square().mean().item() for b, t in positions()]
    assert values.tolist() == pytest.approx(expected, rel=1e-14)
