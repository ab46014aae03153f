"""Invariant 1: how examples are split into micro-batches does not change the update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import distill_trainer, examples, tiny_model
from objective_runs import CASES, Case, Examples, data_of, step_of
from tiers import mostly_slow
from torch import Tensor
from updates import assert_same_update, update_of

from hf_distill.reading.signals import IGNORE_INDEX

ANSWER = ("start_positions", "end_positions")
SPLITS = [(8, 1), (2, 4), (1, 8)]
# Heads that select their rows unlike each other, and objectives that read logits, layers and several examples.
HEADS = ("causal_lm", "classification")
TELLING = ("forward_kl", "hidden_mse", "rkd")


def of_each_kind(invariant: bool) -> list[Any]:
    cases = [pytest.param(case, id=case.id) for case in CASES if case.objective.partition_invariant == invariant]
    return mostly_slow(cases, quick=lambda case: case.head in HEADS and case.name in TELLING)


INVARIANT = of_each_kind(True)
RELATIONAL = of_each_kind(False)


@pytest.mark.parametrize("case", INVARIANT)
def test_accumulation_does_not_rescale_or_reweight_the_update(tmp_path, case):
    whole, *parts = (step_of(case, tmp_path, *split, data_of(case.head, 8)) for split in SPLITS)
    for part in parts:
        assert_same_update(whole["update"], part["update"])
        assert part["loss"].item() == pytest.approx(whole["loss"].item(), rel=1e-5)


def share_of_items(case: Case, part: Examples, whole: Examples) -> float:
    """Which share of a window's items stands in some of its examples, counted without the package."""

    def labels(data: Examples) -> int:
        if case.head == "question_answering":
            return sum(int(example[key] < example["attention_mask"].sum()) for example in data for key in ANSWER)
        counted = [example["labels"][1:] if case.head == "causal_lm" else example["labels"] for example in data]
        return sum(int((one != IGNORE_INDEX).sum()) for one in counted)

    return labels(part) / labels(whole) if case.objective.unit == "label" else len(part) / len(whole)


@pytest.mark.parametrize("case", RELATIONAL)
def test_a_window_is_not_the_weighted_mean_of_its_micro_batches(tmp_path, case):
    """What holds for values that are a micro-batch's by nature: the denominator is still the window's."""
    data = data_of(case.head, 8)
    window = step_of(case, tmp_path, 4, 2, data)
    parts = [(step_of(case, tmp_path, 4, 1, part), share_of_items(case, part, data)) for part in (data[:4], data[4:])]
    assert_same_update(sum(share * part["update"] for part, share in parts), window["update"])
    assert sum(share * part["loss"].item() for part, share in parts) == pytest.approx(window["loss"].item(), rel=1e-5)


@pytest.mark.parametrize("case", RELATIONAL)
def test_an_objective_that_says_it_depends_on_the_micro_batch_does(tmp_path, case):
    whole, split = (step_of(case, tmp_path, *split, data_of(case.head, 8))["update"] for split in ((8, 1), (4, 2)))
    assert (whole - split).norm() > 1e-3 * whole.norm()


def one_step(folder: Path, head: str, **overrides) -> Tensor:
    return update_of(distill_trainer(folder, head, max_steps=1, learning_rate=1.0, **overrides))


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm", "classification"])
def test_mixing_with_labels_keeps_the_update_under_accumulation(tmp_path, head):
    spec = {"name": "one_shot", "label_mix": 0.3, "temperature": 2.0}
    one, other = (
        one_step(
            tmp_path,
            head,
            curriculum=spec,
            teacher=tiny_model(head, seed=7),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        )
        for size, steps in (SPLITS[0], SPLITS[-1])
    )
    assert_same_update(one, other)


def test_a_short_last_window_is_divided_by_its_own_items(tmp_path):
    """Two examples in a window of 4 must not be divided by 4."""
    data = examples("classification", count=2)
    whole = one_step(tmp_path, "classification", train_dataset=data, per_device_train_batch_size=2)
    short = one_step(
        tmp_path,
        "classification",
        train_dataset=data,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
    )
    assert_same_update(whole, short)
