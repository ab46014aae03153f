from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_trainer, examples, save_teacher_run, tiny_model
from cache_cases import make_walk
from tiers import mostly_slow
from transformers import TrainerCallback

from hf_distill.cache.walk import quiet_arguments
from hf_distill.reading.signals import Rows
from hf_distill.teachers import LiveTeacher, TeacherSequence

Seen = list[tuple[int, list[list[int]], int]]


class Noting:
    """Notes revision, token ids and rows of each batch."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def visit(self, inputs: Mapping[str, Any], rows: Rows, *, revision: int) -> None:
        assert not torch.is_grad_enabled()
        counted = len(inputs["input_ids"]) if rows.mask is None else int(rows.mask.sum())
        self.seen.append((revision, inputs["input_ids"].tolist(), counted))


class Listening(TeacherSequence):
    """A teacher that notes what a training asks of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.seen: Seen = []

    def row_logits(self, inputs: Mapping[str, Any], rows: Rows) -> torch.Tensor:
        logits = super().row_logits(inputs, rows)
        assert self.current is not None
        self.seen.append((self.current, inputs["input_ids"].tolist(), len(logits)))
        return logits


CASES = {
    "epochs": {},
    "accumulation": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
    "last batch": {"per_device_train_batch_size": 5},
    "dropped last batch": {"per_device_train_batch_size": 5, "dataloader_drop_last": True},
    "sequential": {"train_sampling_strategy": "sequential"},
    "seed": {"seed": 3, "data_seed": 11},
    "epochs instead of steps": {"max_steps": -1, "num_train_epochs": 3.5},
    "restart": {"at_switch": "restart"},
    "two shot": {"curriculum": {"name": "two_shot", "revision": 20, "steps": 4}},
    "weights that end": {
        "curriculum": {
            "name": "one_shot",
            "objectives": [
                {"name": "forward_kl", "weight": {"name": "piecewise", "points": [[0, 1], [0.5, 0], [1, 0]]}}
            ],
            "label_mix": 0.5,
        }
    },
    "annealing": {
        "curriculum": {"name": "annealing", "tau_max": 2, "steps": 6},
        "eval_strategy": "steps",
        "eval_steps": 2,
    },
    "clipped": {"max_grad_norm": 1.0, "optim": "adamw_torch"},
}


@pytest.mark.parametrize("case", mostly_slow(CASES, quick=lambda case: case in ("accumulation", "annealing")))
def test_a_walk_sees_the_batches_and_revisions_that_a_training_asks_the_teacher_for(tmp_path: Path, case: str) -> None:
    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=12)
    overrides = {"max_steps": 10, "curriculum": {"name": "n_shot", "steps": 3}, **CASES[case]}
    listening, noting = Listening(teacher), Noting()
    trainer = distill_trainer(
        tmp_path / "live", teacher=listening, train_dataset=data, eval_dataset=data[:4], **overrides
    )
    trainer.train()
    walk = make_walk(tmp_path / "walk", "classification", TeacherSequence(str(teacher)), data, **overrides)
    walk.walk(noting)
    assert noting.seen == listening.seen
    assert len(noting.seen) > 3
    assert walk.state.max_steps == trainer.state.max_steps


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_a_walk_counts_the_rows_of_token_heads(tmp_path: Path, head: str) -> None:
    teacher, data = save_teacher_run(tmp_path / "teacher", head), examples(head, count=8)
    noting = Noting()
    make_walk(tmp_path / "walk", head, TeacherSequence(str(teacher)), data, max_steps=2, curriculum="one_shot").walk(
        noting
    )
    labels = torch.stack([item["labels"] for item in data])
    counted = labels[:, 1:] if head == "causal_lm" else labels
    assert sum(rows for *_, rows in noting.seen) == int((counted != -100).sum())


def test_a_walk_trains_saves_logs_and_evaluates_nothing(tmp_path: Path) -> None:
    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=8)
    sequence = TeacherSequence(str(teacher))
    walk = make_walk(
        tmp_path / "walk",
        "classification",
        sequence,
        data,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=False,
        logging_steps=1,
    )
    before = {name: value.clone() for name, value in walk.model.state_dict().items()}
    walk.walk(Noting())
    assert all(torch.equal(value, before[name]) for name, value in walk.model.state_dict().items())
    assert walk.state.log_history == []
    assert not (tmp_path / "walk").exists() or not any((tmp_path / "walk").iterdir())
    assert sequence.current is None, "no weights are read before something goes through the teacher"


def test_callbacks_of_the_training_are_left_out(tmp_path: Path) -> None:
    class Failing(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("a walk called a callback of the training")

    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=8)
    walk = make_walk(tmp_path / "walk", "classification", TeacherSequence(str(teacher)), data)
    trainer = distill_trainer(
        tmp_path / "live", teacher=LiveTeacher(tiny_model("classification")), callbacks=[Failing()]
    )
    with pytest.raises(AssertionError, match="called a callback"):
        trainer.train()
    walk.walk(Noting())
    assert walk.state.global_step == 10


def test_steps_without_a_teacher_are_passed_over(tmp_path: Path) -> None:
    data = examples("classification", count=8)
    teacher = LiveTeacher(tiny_model("classification"))
    curriculum = {"name": "annealing", "tau_max": 2, "steps": 4}
    noting = Noting()
    make_walk(
        tmp_path / "walk", "classification", teacher, data, curriculum=curriculum, eval_strategy="steps", eval_steps=2
    ).walk(noting)
    assert len(noting.seen) == 4


def test_a_revision_that_nobody_has_chosen_is_refused(tmp_path: Path) -> None:
    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=8)
    curriculum = {"name": "two_shot", "revision": "auto", "steps": 2}
    walk = make_walk(tmp_path / "walk", "classification", TeacherSequence(str(teacher)), data, curriculum=curriculum)
    with pytest.raises(ValueError, match="`auto` has to be chosen by score"):
        walk.walk(Noting())


def test_the_arguments_of_the_training_stay_as_they_are(tmp_path: Path) -> None:
    args = distill_trainer(tmp_path, save_strategy="steps", save_steps=2, max_grad_norm=1.0).args
    quiet = quiet_arguments(args)
    assert (quiet.save_strategy, quiet.max_grad_norm, quiet.optim) == ("no", 0.0, "sgd")
    assert (args.save_strategy, args.max_grad_norm) == ("steps", 1.0)
    assert quiet.max_steps == args.max_steps
