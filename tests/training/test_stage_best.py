"""The best student of a stage: which one it is, and that exactly it comes back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from builders import tiny_model

from hf_distill.training.stage_best import (
    FILE_NAME,
    best_step_of_stage,
    copy_stage_best,
    load_stage_best,
    save_stage_best,
)


def best(*losses: float, since: int = 0, greater: bool = False) -> int | None:
    history = [{"step": index + 1, "loss": loss} for index, loss in enumerate(losses)]
    return best_step_of_stage(history, since=since, metric="loss", greater_is_better=greater)


def states(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# ---- which one ----


def test_the_best_point_is_taken():
    assert best(3.0, 1.0, 2.0) == 2
    assert best(3.0, 1.0, 2.0, greater=True) == 1


def test_the_first_of_equals_is_taken():
    assert best(1.0, 1.0, 2.0) == 1


def test_no_point_of_the_stage_before_is_taken():
    assert best(0.1, 3.0, 2.0, since=1) == 3
    assert best(0.1, since=1) is None
    assert best() is None


@pytest.mark.parametrize("greater", [False, True])
def test_a_loss_that_is_no_number_is_not_taken(greater):
    assert best(math.nan, 2.0, math.nan, greater=greater) == 2
    assert best(math.nan, greater=greater) is None


def test_an_infinite_loss_is_not_the_best_where_there_is_a_finite_one():
    assert best(math.inf, 5.0) == 2


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"curriculum\.metric: no held-out metric 'f1'; there are \['loss'\]"):
        best_step_of_stage([{"step": 1, "loss": 1.0}], since=0, metric="f1", greater_is_better=True)


# ---- that it comes back ----


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_a_kept_student_comes_back_unchanged(tmp_path, head):
    """Masked and causal language models tie embeddings and head."""
    model, other = tiny_model(head, seed=1), tiny_model(head, seed=2)
    save_stage_best(model, tmp_path, step=3)
    addresses = {name: tensor.data_ptr() for name, tensor in other.state_dict().items()}
    load_stage_best(other, tmp_path, step=3)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert {name: tensor.data_ptr() for name, tensor in other.state_dict().items()} == addresses


def test_empty_tensors_are_not_taken_for_shared_ones(tmp_path):
    class Empty(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("one", torch.zeros(0))
            self.register_buffer("two", torch.zeros(0))

    save_stage_best(Empty(), tmp_path, step=1)
    load_stage_best(Empty(), tmp_path, step=1)
    assert (tmp_path / FILE_NAME).exists()


def test_loading_keeps_the_optimizers_hold_on_the_parameters(tmp_path):
    model = tiny_model("classification")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    save_stage_best(model, tmp_path, step=1)
    load_stage_best(model, tmp_path, step=1)
    before = states(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    changed = [name for name, _ in model.named_parameters() if not torch.equal(model.state_dict()[name], before[name])]
    assert len(changed) == len(list(model.named_parameters()))


def test_a_half_written_file_does_not_take_the_place_of_the_last_one(tmp_path):
    model = tiny_model("classification")
    for step in (1, 2):
        save_stage_best(model, tmp_path, step=step)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(("kept", "message"), [(None, "does not exist"), (2, "holds step 2")])
def test_another_student_is_refused(tmp_path, kept, message):
    model = tiny_model("classification")
    if kept is not None:
        save_stage_best(model, tmp_path, step=kept)
    with pytest.raises(ValueError, match=rf"best student .* is that of step 4, but .* {message}; resume from"):
        load_stage_best(model, tmp_path, step=4)


def test_a_stage_without_a_number_has_no_best_student(tmp_path):
    save_stage_best(tiny_model("classification"), tmp_path, step=1)
    with pytest.raises(ValueError, match=r"no evaluation of the stage before gave a number.*lower the learning rate"):
        load_stage_best(tiny_model("classification"), tmp_path, step=None)


def test_a_checkpoint_keeps_the_kept_student(tmp_path):
    source, target = tmp_path / "run", tmp_path / "checkpoint"
    target.mkdir()
    copy_stage_best(source, target)
    assert list(Path(target).iterdir()) == []
    save_stage_best(tiny_model("classification", seed=4), source, step=5)
    copy_stage_best(source, target)
    other = tiny_model("classification", seed=5)
    load_stage_best(other, target, step=5)
    expected = states(tiny_model("classification", seed=4))
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in expected.items())
    assert [path.name for path in target.iterdir()] == [FILE_NAME]
