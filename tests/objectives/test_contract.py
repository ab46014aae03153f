"""What holds for every registered objective on every head it fits; a new one is covered as soon as it is registered.

`ARGUMENTS` lists variants worth running beside the defaults; `NO_DISTANCE` names what need not be 0 at equality.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import mostly_slow
from torch import Tensor

from hf_distill.loss.reduction import UNITS, reduce_values
from hf_distill.objectives import OBJECTIVES, Objective
from hf_distill.reading.signals import IGNORE_INDEX, Signals, select_rows

# Fields of an objective to run with; one without an entry runs with its defaults.
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "ckd": [{}, {"positive": 1, "temperature_on": "teacher"}],
    "cross_entropy": [{}, {"label_smoothing": 0.1}],
    "decoupled_kd": [{}, {"coupled": True, "temperature_on": "teacher"}],
    "forward_kl": [{}, {"temperature_on": "both"}],
    "generalized_jsd": [{}, {"beta": 0.0}, {"beta": 0.9, "temperature_on": "both"}, {"beta": 1.0}],
    "logit_cosine": [{}, {"temperature_on": "teacher"}],
    "logit_mse": [{}, {"over_classes": "sum"}],
    "margin_mse": [{}, {"margin": 0.5, "over_classes": "sum"}],
    "skew_kl": [{}, {"alpha": 0.0}],
    "skew_reverse_kl": [{}, {"alpha": 0.0}],
    "soft_rank_correlation": [{}, {"classes": 3}],
    "top_k_kl": [{}, {"k": 2}],  # the default is more than all classes here: the dense divergence
    "uncertainty_split": [{}, {"threshold": "median"}],
}
# Objectives that compare with the teacher and are not 0 where it and the student agree, or may be negative.
NO_DISTANCE: frozenset[str] = frozenset()

ROWS, CLASSES = 6, 7
TEMPERATURES = (1e-20, 0.5, 1.0, 4.0)
STUDENT_FIELDS = ("student_logits", "student_passes", "student_hidden")
TEACHER_FIELDS = ("teacher_logits", "teacher_hidden")
KNOWN_NEEDS = {"labels", "teacher.logits", "student.passes"} | {
    f"{side}.{kind}" for side in ("student", "teacher") for kind in ("hidden_states", "attentions")
}
# Objectives that compare a row with the next ones, around the end: their rows may be rotated only.
CYCLIC = frozenset({"ckd"})
# Objectives that look at the positions of a whole forward have a contract of their own: test_feature_contract.py.
WHOLE_FORWARD = frozenset({"attention_kl", "pkt", "relation_kl", "rkd", "similarity_preserving"})

# Heads whose rows and logits are those of a masked language model, for all that an objective sees of them.
LIKE_A_MASKED_MODEL = frozenset({"token_classification", "seq2seq_lm"})
CASES = mostly_slow(
    [
        pytest.param(name, fields, head, id="-".join([name, *map(str, fields.values()), head]))
        for name in OBJECTIVES
        if name not in WHOLE_FORWARD
        for fields in ARGUMENTS.get(name, [{}])
        for head in sorted(OBJECTIVES.get(name).heads - LIKE_A_MASKED_MODEL)
    ],
    quick=lambda name, fields, head: head == min(OBJECTIVES.get(name).heads),
)


def objective_of(name: str, fields: dict[str, Any]) -> Objective:
    return OBJECTIVES.build({"name": name, **fields}, path="objective")


def compares_logits(case: Any) -> bool:
    """Whether a case reads logits over classes or token ids."""
    return case.values[2] != "regression" and "teacher.hidden_states" not in OBJECTIVES.get(case.values[0]).needs


def has_teacher(case: Any) -> bool:
    """Whether a case is a distance from the teacher."""
    needs = OBJECTIVES.get(case.values[0]).needs
    return any(need.startswith("teacher.") for need in needs) and case.values[0] not in NO_DISTANCE


LOGIT_CASES = [case for case in CASES if compares_logits(case)]
DISTANCES = [case for case in CASES if has_teacher(case)]
EVERY_CASE = pytest.mark.parametrize(("name", "fields", "head"), CASES)
INVARIANT = [case for case in CASES if objective_of(*case.values[:2]).partition_invariant]
EVERY_INVARIANT_CASE = pytest.mark.parametrize(("name", "fields", "head"), INVARIANT)
EVERY_OTHER_CASE = pytest.mark.parametrize(("name", "fields", "head"), [c for c in CASES if c not in INVARIANT])
EVERY_LOGIT_CASE = pytest.mark.parametrize(("name", "fields", "head"), LOGIT_CASES)
EVERY_DISTANCE = pytest.mark.parametrize(("name", "fields", "head"), DISTANCES)


def signals_for(
    objective: Objective, head: str, *, rows: int = ROWS, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Signals:
    """Make what an objective needs, on the scale of real logits, in which nothing is a tie."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(width: int) -> Tensor:
        return (3.0 * torch.randn(rows, width, generator=generator, dtype=torch.float64)).to(dtype)

    if "teacher.hidden_states" in objective.needs:
        return Signals(student_hidden=drawn(CLASSES), teacher_hidden=drawn(CLASSES))
    width = 1 if head == "regression" else CLASSES
    if "student.passes" in objective.needs:
        return Signals(student_passes=torch.stack([drawn(width), drawn(width)]))
    student, teacher = drawn(width), drawn(width)
    classes = torch.randint(width, (rows,), generator=generator)
    return Signals(
        student_logits=student,
        labels=drawn(1)[:, 0].float() if head == "regression" else classes,
        teacher_logits=teacher if "teacher.logits" in objective.needs else None,
    )


def tensors_of(signals: Signals) -> dict[str, Tensor]:
    return {name: value for name, value in vars(signals).items() if isinstance(value, Tensor)}


def rows_of(signals: Signals, part: Any) -> Signals:
    """Return some rows of every tensor; passes of the student stand before their rows."""
    taken = {
        key: value[:, part] if key == "student_passes" else value[part] for key, value in tensors_of(signals).items()
    }
    return dataclasses.replace(signals, **taken)


def values_expected(objective: Objective, rows: int) -> int:
    return 1 if objective.unit == "batch" else rows


def student_of(signals: Signals) -> tuple[str, Tensor]:
    return next((name, value) for name, value in tensors_of(signals).items() if name in STUDENT_FIELDS)


def taken_at(objective: Objective, signals: Signals, temperature: float) -> Tensor | None:
    """Return the values, or None where the objective refuses a temperature near 0 and says so."""
    try:
        return objective.values(signals, temperature=temperature)
    except ValueError as error:
        assert temperature < 1e-3, error
        assert "temperature" in str(error)
        return None


# ---- declaration ----


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_an_objective_declares_what_it_needs_and_counts(name):
    objective = OBJECTIVES.get(name)
    assert objective.needs, "an objective that needs nothing compares nothing"
    assert objective.needs <= KNOWN_NEEDS, "teach signals_for about the new need"
    assert objective.unit in UNITS
    assert objective.heads
    assert objective.__doc__ and "Shapes" in objective.__doc__


@EVERY_CASE
def test_every_field_explains_itself_and_the_formula_is_short(name, fields, head):
    objective = objective_of(name, fields)
    assert all(field.metadata.get("help") for field in dataclasses.fields(objective))
    assert 0 < len(objective.formula()) < 80


@EVERY_CASE
def test_an_objective_cannot_be_changed_while_it_runs(name, fields, head):
    objective = objective_of(name, fields)
    with pytest.raises(dataclasses.FrozenInstanceError, match="unit"):
        objective.unit = "batch"


# ---- shape, precision, gradient ----


@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_values_and_gradients_are_finite_in_every_precision(name, fields, head, dtype):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head, dtype=dtype)
    field, student = student_of(signals)
    student[..., 0, :] = torch.linspace(-1e4, 1e4, student.shape[-1]).flip(0).to(dtype)
    student = student.requires_grad_()
    for temperature in TEMPERATURES:
        values = taken_at(objective, dataclasses.replace(signals, **{field: student}), temperature)
        if values is None:
            continue
        assert values.shape == (values_expected(objective, ROWS),)
        assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        (gradient,) = torch.autograd.grad(values.sum(), student)
        assert values.isfinite().all(), temperature
        assert gradient.isfinite().all(), temperature


@EVERY_CASE
def test_no_rows_give_no_values_and_keep_the_gradient_path(name, fields, head):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head, rows=0, dtype=torch.float32)
    field, student = student_of(signals)
    student = student.requires_grad_()
    values = objective.values(dataclasses.replace(signals, **{field: student}), temperature=1.0)
    assert values.shape == (values_expected(objective, 0),)
    loss = reduce_values(values, torch.tensor(1.0))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None


@EVERY_CASE
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_is_that_of_the_value(name, fields, head, temperature):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head)
    field, student = student_of(signals)

    def values(tensor: Tensor) -> Tensor:
        return objective.values(dataclasses.replace(signals, **{field: tensor}), temperature=temperature)

    assert torch.autograd.gradcheck(values, student.requires_grad_())


@EVERY_DISTANCE
def test_no_gradient_reaches_the_teacher(name, fields, head):
    objective = objective_of(name, fields)
    for temperature in TEMPERATURES:
        given = tensors_of(signals_for(objective, head))
        learning = {key: value.requires_grad_() for key, value in given.items() if value.is_floating_point()}
        values = taken_at(objective, Signals(**{**given, **learning}), temperature)
        if values is None:
            continue
        values.sum().backward()
        assert all(value.grad is None for key, value in learning.items() if key in TEACHER_FIELDS)
        assert any(value.grad is not None for key, value in learning.items() if key in STUDENT_FIELDS)


@EVERY_CASE
def test_inputs_are_not_written_to(name, fields, head):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head, dtype=torch.float32)
    before = {key: value.clone() for key, value in tensors_of(signals).items()}
    for temperature in TEMPERATURES:
        taken_at(objective, signals, temperature)
    assert all(torch.equal(before[key], value) for key, value in tensors_of(signals).items())


# ---- rows ----


@EVERY_CASE
@settings(derandomize=True, deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(name, fields, head, seed):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head, seed=seed)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))
    if name in CYCLIC:
        order = torch.arange(ROWS).roll(seed)
    values, moved = (objective.values(one, temperature=2.0) for one in (signals, rows_of(signals, order)))
    expected = values if objective.unit == "batch" else values[order]
    torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)


def parts_and_whole(objective: Objective, signals: Signals, cut: int) -> tuple[float, float]:
    """Return the loss of a window of two micro-batches, and that of one."""
    parts = [rows_of(signals, part) for part in (slice(None, cut), slice(cut, None))]

    def loss(micro_batches: list[Signals]) -> float:
        items = torch.tensor(float(len(micro_batches) if objective.unit == "batch" else ROWS))
        values = [objective.values(one, temperature=2.0) for one in micro_batches]
        return sum(reduce_values(one, items).item() for one in values)

    return loss(parts), loss([signals])


@EVERY_INVARIANT_CASE
@settings(derandomize=True, deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000), cut=st.integers(0, ROWS))
def test_two_parts_of_a_batch_add_up_to_the_whole(name, fields, head, seed, cut):
    objective = objective_of(name, fields)
    parts, whole = parts_and_whole(objective, signals_for(objective, head, seed=seed), cut)
    assert parts == pytest.approx(whole, rel=1e-12, abs=1e-12)


@EVERY_OTHER_CASE
def test_an_objective_that_says_it_depends_on_the_micro_batch_does(name, fields, head):
    objective = objective_of(name, fields)
    splits = [parts_and_whole(objective, signals_for(objective, head), cut) for cut in range(1, ROWS)]
    assert any(parts != pytest.approx(whole, rel=1e-3) for parts, whole in splits)
    assert "micro-batch" in (type(objective).__doc__ or ""), "its documentation must say so"


@EVERY_LOGIT_CASE
@settings(derandomize=True, deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_vocabulary_does_not_matter(name, fields, head, seed):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head, seed=seed)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed))
    moved_logits = {key: value[..., order] for key, value in tensors_of(signals).items() if key != "labels"}
    permuted = dataclasses.replace(signals, **moved_logits)
    if signals.labels is not None:
        permuted = dataclasses.replace(permuted, labels=order.argsort()[signals.labels])
    values, moved = (objective.values(one, temperature=2.0) for one in (signals, permuted))
    torch.testing.assert_close(moved, values, rtol=1e-10, atol=1e-10)


def answers_at(labels_B2: Tensor) -> dict[str, Tensor]:
    """A batch of texts as long as there are classes."""
    ids = torch.ones(len(labels_B2), CLASSES, dtype=torch.long)
    return {"input_ids": ids, "start_positions": labels_B2[:, 0], "end_positions": labels_B2[:, 1]}


@EVERY_LOGIT_CASE
@settings(derandomize=True, deadline=None, max_examples=4)
@given(seed=st.integers(0, 1000), garbage=st.sampled_from([float("nan"), float("inf"), -1e30]))
def test_masked_positions_cannot_matter(name, fields, head, seed, garbage):
    objective = objective_of(name, fields)
    generator = torch.Generator().manual_seed(seed)
    lengths = (8,) if head in ("classification", "regression") else (4, 2) if head == "question_answering" else (2, 5)
    passes = (2,) if objective.compares_passes else (1,)
    student, teacher = (torch.randn(*passes, *lengths, CLASSES, generator=generator) for _ in range(2))
    masked = torch.rand(lengths, generator=generator) < 0.4
    labels = torch.randint(CLASSES, lengths, generator=generator).masked_fill(masked, IGNORE_INDEX)
    rows = select_rows(head, {"labels": labels} if head != "question_answering" else answers_at(labels))
    # Where a causal model predicts a masked label, its logits are garbage; the last position predicts nothing.
    unread = masked if head != "causal_lm" else torch.cat([masked[:, 1:], torch.ones(2, 1, dtype=torch.bool)], 1)

    def loss_of(fill: float | None) -> tuple[Tensor, Tensor]:
        filled = [
            logits.clone() if fill is None else logits.masked_fill(unread.unsqueeze(-1), fill)
            for logits in (student, teacher)
        ]
        learning = filled[0].requires_grad_()
        selected = torch.stack([rows.of(one) for one in learning])
        signals = Signals(
            student_logits=selected[0],
            student_passes=selected if objective.compares_passes else None,
            labels=rows.labels_R,
            teacher_logits=rows.of(filled[1][0]),
        )
        loss = reduce_values(objective.values(signals, temperature=2.0), torch.tensor(3.0))
        return loss.detach(), torch.autograd.grad(loss, learning)[0]

    (clean, gradient), (dirty, dirty_gradient) = loss_of(None), loss_of(garbage)
    assert torch.equal(clean, dirty)
    assert torch.equal(gradient, dirty_gradient)
    assert (dirty_gradient[:, unread] == 0).all()


# ---- distances ----


@EVERY_DISTANCE
@settings(derandomize=True, deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), temperature=st.sampled_from([0.25, 1.0, 4.0]))
def test_a_distance_is_not_negative(name, fields, head, seed, temperature):
    objective = objective_of(name, fields)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        values = objective.values(signals_for(objective, head, seed=seed, dtype=dtype), temperature=temperature)
        assert values.min().item() >= -tolerance


@EVERY_DISTANCE
def test_a_distance_is_zero_and_flat_where_student_and_teacher_agree(name, fields, head):
    objective = objective_of(name, fields)
    signals = signals_for(objective, head)
    teacher = next(value for key, value in tensors_of(signals).items() if key in TEACHER_FIELDS)
    student = teacher.clone().requires_grad_()
    agreeing = dataclasses.replace(signals, **{student_of(signals)[0]: student})
    values = objective.values(agreeing, temperature=1.0)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert values.abs().max().item() < 1e-12
    assert gradient.abs().max().item() < 1e-12


@EVERY_DISTANCE
def test_a_distance_is_seen_where_they_do_not_agree(name, fields, head):
    objective = objective_of(name, fields)
    assert objective.values(signals_for(objective, head), temperature=1.0).mean().item() > 1e-3
