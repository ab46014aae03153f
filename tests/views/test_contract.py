"""What holds for every registered view: it belongs to its batch row by row, and to the random state alone."""

from __future__ import annotations

import copy

import pytest
import torch
from view_cases import CASES, IMAGES, batch_for, context_of, pixel_batch, text_batch, view_of

from hf_distill.views import VIEWS


def changed(before, after) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_view_leaves_the_callers_tensors(name, head):
    batch = batch_for(name, head)
    before = copy.deepcopy(batch)
    torch.manual_seed(0)
    augmented = view_of(name).augment(batch, context_of(head))
    assert batch.keys() == before.keys()
    assert changed(before, batch) == set()
    assert augmented is not batch


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_view_leaves_labels_and_mask(name, head):
    batch = batch_for(name, head)
    for seed in range(5):
        torch.manual_seed(seed)
        augmented = view_of(name).augment(batch, context_of(head))
        assert changed(batch, augmented) <= {"pixel_values", "input_ids"}
        for key in batch:
            assert augmented[key].shape == batch[key].shape
            assert augmented[key].dtype == batch[key].dtype


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_view_changes_something_and_is_drawn_from_the_global_generator(name, head):
    batch, view = batch_for(name, head), view_of(name)
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        drawn.append(view.augment(batch, context_of(head)))
    assert changed(drawn[0], drawn[1]) == set(), "the same random state, another view"
    assert any(changed(drawn[0], other) for other in drawn[2:]), "another random state, the same view"
    assert any(changed(batch, one) or one.keys() != batch.keys() for one in drawn)


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_batch_that_can_be_changed_is_no_problem(name, head):
    assert view_of(name).problem(batch_for(name, head), context_of(head)) is None


@pytest.mark.parametrize("name", [name for name in VIEWS if name not in ("cutout", "token_replacement")])
def test_an_example_alone_is_a_problem_and_does_not_break_a_run_at_its_last_batch(name):
    batch = {key: value[:1] for key, value in batch_for(name, "classification").items()}
    context = context_of("classification")
    assert "raise per_device_train_batch_size" in view_of(name).problem(batch, context)
    assert changed(batch, view_of(name).augment(batch, context)) == set()


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_inputs_of_another_kind_are_refused(name):
    batch = text_batch("classification") if name in IMAGES else pixel_batch()
    with pytest.raises(ValueError, match=r"but the batch has .*use "):
        view_of(name).augment(batch, context_of("classification"))
    with pytest.raises(ValueError, match=r"but the batch has .*use "):
        view_of(name).problem(batch, context_of("classification"))


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_stored_teacher_is_not_enough_for_a_view(name):
    assert "teacher.live" in VIEWS.get(name).needs


@pytest.mark.parametrize("name", [name for name in VIEWS if name not in ("cutout", "token_replacement")])
@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_an_impossible_share_is_refused(name, alpha):
    with pytest.raises(ValueError, match=f"{name}: `alpha` must be positive"):
        view_of(name, alpha=alpha)
