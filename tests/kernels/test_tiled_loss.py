"""The tiled loss is the dense one: values and gradients, whatever is drawn, and nothing of the size of the logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from head_cases import CLOSED, OPEN, Case, Watch, assert_same, distance, head_case
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import mostly_slow
from torch import Tensor

from hf_distill.kernels import HeadRows, LogitRows, RowTerm, dense_loss, tiled_loss
from hf_distill.objectives import (
    CrossEntropy,
    ForwardKL,
    GeneralizedJSD,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    XDivergence,
)
from hf_distill.reading.signals import IGNORE_INDEX

EXACT = 1e-12
TWO_ROWS = 2 * 2 * 23 * 8
"""Bytes that hold two rows of both models' logits in float64 at 23 ids: several tiles for every case."""


TRUE_GRADIENTS = [o for o in CLOSED if not (isinstance(o, SkewReverseKL) and o.detach_mixture)]
"""DistiLLM-2's detached mixture is by definition not the gradient of the value."""


def one(objective, **more) -> list[RowTerm]:
    return [RowTerm(objective=objective, **{"temperature": 1.0, **more})]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("objective", CLOSED + OPEN, ids=lambda objective: objective.formula())
def test_no_objective_differs_from_its_own_values_and_autograd(objective, temperature):
    case, terms = head_case(), one(objective, temperature=temperature)
    tiled = case.everything(tiled_loss, terms, budget_bytes=TWO_ROWS)
    assert_same(tiled, case.everything(dense_loss, terms), within=EXACT)


@pytest.mark.parametrize(
    "objective",
    [o for o in CLOSED if o.uses_teacher and o.argmax_refusal is None and o.temperature_on == "teacher"],
    ids=lambda objective: objective.formula(),
)
def test_a_temperature_near_zero_is_the_teachers_argmax(objective):
    case, terms = head_case(), one(objective, temperature=1e-4)
    tiled = case.everything(tiled_loss, terms, budget_bytes=TWO_ROWS)
    assert_same(tiled, case.everything(dense_loss, terms), within=EXACT)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=120)
@given(data=st.data())
def test_nothing_that_can_be_drawn_tells_tiles_from_whole_logits(data):
    draw = data.draw
    vocabulary, rows = draw(st.integers(2, 40)), draw(st.integers(1, 12))
    narrower = draw(st.booleans())
    teacher_vocabulary = draw(st.integers(2, 40)) if narrower else None
    shared = draw(st.integers(1, min(vocabulary, teacher_vocabulary))) if narrower else None
    case = head_case(
        rows,
        vocabulary,
        seed=draw(st.integers(0, 1000)),
        teacher_vocabulary=teacher_vocabulary,
        shared_width=shared,
        bias=draw(st.booleans()),
        softcap=draw(st.none() | st.floats(0.5, 10.0)),
        scale=draw(st.sampled_from([1.0, 0.25, 2.0])),
        given_logits=draw(st.booleans()),
        frozen=draw(st.sampled_from([(), (0,), (1,), (1, 2)])),
    )
    if draw(st.booleans()):
        case.labels_R[draw(st.integers(0, rows - 1))] = IGNORE_INDEX
    closed = st.sampled_from(CLOSED)
    drawn = draw(
        st.lists(closed if IGNORE_INDEX in case.labels_R else closed | st.sampled_from(OPEN), min_size=1, max_size=4)
    )
    terms = [
        RowTerm(
            objective=o, weight=draw(st.sampled_from([1.0, 0.3, -0.5, 3.0])), temperature=draw(st.floats(0.3, 4.0))
        )
        for o in drawn
    ]
    tiled = case.everything(tiled_loss, terms, budget_bytes=draw(st.sampled_from([1, 1000, 4000, 10**6])))
    dense = case.everything(dense_loss, terms)
    # A gradient may cancel almost to nothing; what it is made of has the size of the values.
    sizes = [float(tensor.abs().max()) for tensor in dense]
    for found, expected, size in zip(tiled, dense, sizes, strict=True):
        assert (found - expected).abs().max() <= EXACT * max(size, sizes[1], 1.0)


@pytest.mark.parametrize(
    "objective",
    mostly_slow(TRUE_GRADIENTS, quick=lambda objective: isinstance(objective, (ForwardKL, CrossEntropy))),
    ids=lambda objective: objective.formula(),
)
def test_the_gradient_is_that_of_the_value_by_finite_differences(objective):
    case, terms = head_case(4, 9, softcap=3.0, scale=0.7), one(objective, temperature=1.5)
    analytic = case.everything(tiled_loss, terms, budget_bytes=300)[2:]
    step = 1e-5
    for leaf, gradient in zip(case.leaves, analytic, strict=True):
        flat, numeric = leaf.detach().view(-1), torch.zeros(leaf.numel(), dtype=leaf.dtype)
        with torch.no_grad():
            for index in range(leaf.numel()):
                ends = []
                for sign in (1.0, -1.0):
                    flat[index] += sign * step
                    ends.append(case.loss(tiled_loss, terms, budget_bytes=300).loss)
                    flat[index] -= sign * step
                numeric[index] = (ends[0] - ends[1]) / (2 * step)
        assert distance(numeric.view_as(leaf), gradient) < 1e-7


@pytest.mark.parametrize("objective", CLOSED + OPEN, ids=lambda objective: objective.formula())
def test_single_precision_stays_near_the_float64_reference(objective):
    terms = one(objective, temperature=2.0)
    exact = head_case(40, 300).everything(dense_loss, terms)
    single = head_case(40, 300, dtype=torch.float32).everything(tiled_loss, terms, budget_bytes=50_000)
    assert_same(single, exact, within=5e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("objective", [ForwardKL(), ReverseKL(), GeneralizedJSD(), CrossEntropy()], ids=str)
def test_autocast_is_as_near_to_float32_as_the_dense_path_under_autocast(objective, dtype):
    terms = one(objective)
    exact = head_case(40, 300, dtype=torch.float32).everything(dense_loss, terms)
    distances = {}
    for way in (dense_loss, tiled_loss):
        case = head_case(40, 300, dtype=torch.float32)
        with torch.autocast("cpu", dtype=dtype):
            made = case.loss(way, terms)
        found = [made.loss.detach(), made.values_KR, *torch.autograd.grad(made.loss, case.leaves)]
        assert [tensor.dtype for tensor in found] == [torch.float32] * 5
        distances[way] = [distance(*pair) for pair in zip(found, exact, strict=True)]
    for ours, theirs in zip(distances[tiled_loss], distances[dense_loss], strict=True):
        assert ours < max(2.0 * theirs, 0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_weights_gradient_is_added_up_in_float32(dtype):
    """Added in bfloat16, each tile's share would be lost behind the sum of those before it."""
    rows = 512
    hidden_RH = torch.ones(rows, 1, dtype=dtype)
    weight_VH = torch.zeros(2, 1, dtype=dtype, requires_grad=True)
    rows_of = HeadRows(hidden_RH=hidden_RH, weight_VH=weight_VH)
    labels_R = torch.zeros(rows, dtype=torch.long)
    tiled_loss(rows_of, one(CrossEntropy()), labels_R=labels_R, budget_bytes=16 * 2 * 2).loss.backward()
    assert weight_VH.grad.dtype == dtype
    assert weight_VH.grad.flatten().tolist() == [-rows / 2, rows / 2]


def test_small_gradients_survive_float16():
    """One row in many: its share of the mean is below the smallest float16, but not the gradient of the sum."""
    case = head_case(40, 300, dtype=torch.float16)
    exact = head_case(40, 300).loss(dense_loss, one(ForwardKL()))
    scaled = case._replace(scale=case.scale * 0 + 1.0)
    made = tiled_loss(case.student, one(ForwardKL()), teacher=case.teacher, scale=1e-9)
    (weight,) = torch.autograd.grad(made.loss * 2.0**40, [case.leaves[1]])
    reference = head_case(40, 300)._replace(scale=scaled.scale.double() * 1e-9)
    expected = reference.everything(dense_loss, one(ForwardKL()))[3] * 2.0**40
    assert exact.loss > 0
    assert distance(weight, expected) < 0.02


@pytest.mark.parametrize("objective", [ForwardKL(), CrossEntropy(), GeneralizedJSD()], ids=str)
def test_no_rows_give_zero_and_gradients_of_zero(objective):
    case = head_case(0)
    loss, values, *gradients = case.everything(tiled_loss, one(objective))
    assert loss == 0.0 and values.shape == (1, 0)
    assert [tuple(g.shape) for g in gradients] == [tuple(leaf.shape) for leaf in case.leaves]
    assert all(not g.any() for g in gradients)
    alone = tiled_loss(case.student, one(objective), teacher=case.teacher, labels_R=case.labels_R, scale=0.5)
    assert alone.loss == 0.0


def test_a_teachers_id_of_minus_infinity_has_no_share():
    """A masked id must not turn the loss into NaN: 0 · (−inf)."""
    case = head_case()
    bias_V = torch.zeros(23, dtype=torch.float64)
    bias_V[3] = -torch.inf
    teacher = HeadRows(hidden_RH=case.teacher.hidden_RH, weight_VH=case.teacher.weight_VH, bias_V=bias_V)
    for source in (teacher, LogitRows.of(teacher.logits())):
        changed = case._replace(teacher=source)
        for objective in (ForwardKL(), GeneralizedJSD(), SkewKL(alpha=0.1)):
            pair = [changed.everything(way, one(objective)) for way in (tiled_loss, dense_loss)]
            assert_same(*pair, within=EXACT)


def test_equal_models_are_nothing_apart():
    case = head_case(dtype=torch.float32, bias=False)
    same = case._replace(teacher=case.student)
    for objective in CLOSED:
        if objective.uses_teacher:
            _, values, *gradients = same.everything(tiled_loss, one(objective))
            assert values.abs().max() < 1e-6
            assert max(float(g.abs().max()) for g in gradients) < 1e-5


def test_nothing_is_as_large_as_the_logits():
    rows, vocabulary = 200, 1000
    terms = [RowTerm(objective=ForwardKL()), RowTerm(objective=CrossEntropy(), weight=0.5), *one(OPEN[0])]
    case = head_case(rows, vocabulary, dtype=torch.float32)
    with Watch() as largest:
        case.loss(tiled_loss, terms, budget_bytes=2 * 10 * vocabulary * 4).loss.backward()
    assert largest.elements < rows * vocabulary / 10
    with Watch() as dense:
        case.loss(dense_loss, terms).loss.backward()
    assert dense.elements >= rows * vocabulary, "the measurement would not have noticed"


@pytest.mark.parametrize(("frozen", "products"), [((), 4), ((1, 2), 3), ((0,), 3), ((0, 1, 2), 2)])
def test_no_product_is_computed_for_a_gradient_that_nobody_needs(frozen, products):
    """A frozen head (adapters on the body), a frozen body, an evaluation."""
    case = head_case(200, 50, dtype=torch.float32, frozen=frozen)
    trained = head_case(200, 50, dtype=torch.float32).loss(tiled_loss, one(ForwardKL()))
    tiles = 10
    with Watch() as watch:
        made = case.loss(tiled_loss, one(ForwardKL()), budget_bytes=20 * 2 * 50 * 4)
    assert watch.products == products * tiles
    assert made.loss.requires_grad == (len(frozen) < 3)
    assert_same([made.values_KR], [trained.values_KR], within=1e-6)


def test_evaluation_computes_no_gradient():
    case = head_case(20, 50, dtype=torch.float32)
    with Watch() as watch, torch.no_grad():
        loss = case.loss(tiled_loss, one(ForwardKL())).loss
    assert watch.products == 2
    assert not loss.requires_grad


@pytest.mark.parametrize("frozen", [(1, 2), (0,), (0, 1), (0, 2)])
def test_what_needs_no_gradient_gets_none(frozen):
    case = head_case(frozen=frozen)
    case.loss(tiled_loss, one(ForwardKL()), budget_bytes=TWO_ROWS).loss.backward()
    assert [leaf.grad is None for leaf in case.leaves] == [index in frozen for index in range(3)]


def test_a_weight_that_is_read_twice_gets_both_gradients():
    def gradient(way) -> Tensor:
        case = head_case(bias=False)
        embedding_VH = case.leaves[1]
        hidden_RH = case.leaves[0] + embedding_VH[case.labels_R]
        student = HeadRows(hidden_RH=hidden_RH, weight_VH=embedding_VH)
        loss = way(student, one(ForwardKL()), teacher=case.teacher, scale=case.scale).loss
        return torch.autograd.grad(loss, embedding_VH)[0]

    assert distance(gradient(tiled_loss), gradient(dense_loss)) < EXACT


def test_the_loss_is_multiplied_by_what_follows_it():
    case, terms = head_case(), one(GeneralizedJSD())
    plain = case.everything(tiled_loss, terms)[2:]
    made = case.loss(tiled_loss, terms).loss
    scaled = torch.autograd.grad(made * 1024.0 + made.detach(), case.leaves)
    assert_same(scaled, [1024.0 * gradient for gradient in plain], within=EXACT)


def test_a_second_backward_is_refused_instead_of_giving_a_wrong_gradient():
    loss = head_case().loss(tiled_loss, one(ForwardKL())).loss
    (3.0 * loss).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (3.0 * loss).backward()


def test_inputs_are_left_as_they_are():
    case = head_case(given_logits=True)
    logits_RV = case.teacher.logits()
    before = [tensor.detach().clone() for tensor in (*case.leaves, logits_RV, case.labels_R, case.scale)]
    case.loss(tiled_loss, [RowTerm(objective=o) for o in (ForwardKL(), CrossEntropy())]).loss.backward()
    after = (*case.leaves, logits_RV, case.labels_R, case.scale)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_parts_of_the_rows_add_up_to_the_whole():
    """Micro-batches: each multiplies its rows by 1 / the window's items, and the gradients add up."""
    case, terms = head_case(10), one(ForwardKL())

    def part(rows: slice) -> Case:
        student = HeadRows(hidden_RH=case.leaves[0][rows], weight_VH=case.leaves[1], bias_V=case.leaves[2])
        teacher = HeadRows(hidden_RH=case.teacher.hidden_RH[rows], weight_VH=case.teacher.weight_VH)
        return case._replace(student=student, teacher=teacher, labels_R=case.labels_R[rows], scale=case.scale[rows])

    whole = case.everything(tiled_loss, terms)[2:]
    parts = [part(rows).everything(tiled_loss, terms)[2:] for rows in (slice(0, 3), slice(3, 10))]
    assert_same([a + b for a, b in zip(*parts, strict=True)], whole, within=EXACT)


PASS_TERMS = [
    RowTerm(objective=CrossEntropy(), weight=0.6),
    RowTerm(objective=XDivergence(), weight=2.0),
    RowTerm(objective=ForwardKL(), temperature=2.0),
    RowTerm(objective=OPEN[0], weight=0.1),
]


@pytest.mark.parametrize("terms", [PASS_TERMS, PASS_TERMS[1:2], PASS_TERMS[:1], PASS_TERMS[:3]], ids=len)
@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_several_passes_are_compared_and_averaged_as_with_whole_logits(terms, passes, softcap):
    case = several_passes(passes, 9, softcap=softcap)
    for budget in (1, 2 * (passes + 1) * 23 * 8, 10**6):
        tiled = case.everything(tiled_loss, terms, passes=passes, budget_bytes=budget)
        assert_same(tiled, case.everything(dense_loss, terms, passes=passes), within=EXACT)


def test_several_passes_survive_ids_of_minus_infinity_and_no_rows():
    case = several_passes(5, 4, dtype=torch.float32)
    with torch.no_grad():
        case.leaves[2][3] = -torch.inf
    loss, values, *gradients = case.everything(tiled_loss, PASS_TERMS[1:2], passes=5)
    assert torch.isfinite(values).all() and loss > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    none = several_passes(3, 0).everything(tiled_loss, PASS_TERMS[:3], passes=3)
    assert none[0] == 0.0 and none[1].shape == (3, 0)


def test_k_passes_cost_the_teacher_once_and_the_student_k_times():
    case = several_passes(3, 100, dtype=torch.float32)
    with Watch() as watch:
        case.loss(tiled_loss, PASS_TERMS[1:3], passes=3)
    assert watch.products == 1 + 3 * 3


def several_passes(passes: int, rows: int, **more: Any) -> Case:
    """A student that has read `rows` rows several times, the teacher once."""
    case, once = head_case(passes * rows, **more), head_case(rows, seed=1, dtype=more.get("dtype", torch.float64))
    return case._replace(teacher=once.teacher, labels_R=once.labels_R, scale=once.scale)


def test_rows_that_are_not_those_of_all_passes_are_refused():
    with pytest.raises(ValueError, match="7 rows of the student are not those of 2 passes"):
        head_case().loss(tiled_loss, one(CrossEntropy()), passes=2)
    with pytest.raises(ValueError, match="there is one; pass `passes`"):
        head_case().loss(tiled_loss, one(XDivergence()))


def test_what_does_not_fit_is_refused_before_anything_is_computed():
    case = head_case(teacher_vocabulary=20)
    terms = one(ForwardKL())
    with pytest.raises(ValueError, match="pass shared_width"):
        case.loss(tiled_loss, terms)
    with pytest.raises(ValueError, match="between 1 and 20"):
        case._replace(shared_width=21).loss(tiled_loss, terms)
    with pytest.raises(ValueError, match="pass `teacher`"):
        tiled_loss(case.student, terms)
    with pytest.raises(ValueError, match=r"labels_R of shape \(7,\), got None"):
        tiled_loss(case.student, one(CrossEntropy()))
    with pytest.raises(ValueError, match="one term or more"):
        tiled_loss(case.student, [])
    with pytest.raises(ValueError, match="same rows, got 8 and 7"):
        tiled_loss(case.student, terms, teacher=head_case(8).teacher)
    with pytest.raises(ValueError, match="one for each of the 7 rows"):
        tiled_loss(case.student, one(CrossEntropy()), labels_R=case.labels_R, scale=torch.ones(3))
