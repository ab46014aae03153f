"""A batch that is not finite is never trained on, and the message says which one it was."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from builders import distill_trainer, examples, flat_weights, tiny_model
from tiers import mostly_slow
from torch import nn
from transformers import TrainerCallback

from hf_distill import ProgressiveDistillTrainer
from hf_distill.faults.bad_batch import MOST_SKIPPED, BadBatch, refuse_skipping

NOTHING = "Nothing was trained on it"


def answer_badly(model: nn.Module, ids: torch.Tensor, value: float) -> None:
    """Let a model's logits be `value` for the example with these token ids."""

    def spoil(_module: nn.Module, _inputs: Any, named: dict[str, Any], output: Any) -> Any:
        chosen = (named["input_ids"] == ids).all(-1)
        output.logits = output.logits.masked_fill(chosen.reshape(-1, *[1] * (output.logits.dim() - 1)), value)
        return output

    model.register_forward_hook(spoil, with_kwargs=True)


def run(folder: Path, who: str, *, head: str = "classification", value: float = float("nan"), **overrides: Any):
    """A trainer of 4 examples a step in micro-batches of 2, in which a model fails at example 13 of 16."""
    data = examples(head, count=16)
    models = {"model": tiny_model(head, seed=1), "teacher": tiny_model(head, seed=7)}
    if who in models:
        answer_badly(models[who], data[13]["input_ids"], value)
    settings = {
        "train_dataset": data,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 8,
        "optim": "adamw_torch",
        "learning_rate": 0.01,
        "curriculum": {"name": "one_shot", "label_mix": 0.5},
        **overrides,
    }
    return distill_trainer(folder, head, **models, **settings)


class Weights(TrainerCallback):
    """Keeps the student's weights at the end of each step."""

    def __init__(self) -> None:
        self.trainer: ProgressiveDistillTrainer
        self.kept: list[torch.Tensor] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.kept.append(flat_weights(self.trainer.model))


def trained(trainer: ProgressiveDistillTrainer) -> list[torch.Tensor]:
    """Train as far as it goes; return the weights after each step."""
    weights = Weights()
    weights.trainer = trainer
    trainer.add_callback(weights)
    trainer.train()
    return weights.kept


@pytest.mark.parametrize(("who", "whom"), [("teacher", "the teacher"), ("model", "the student")])
@pytest.mark.parametrize("value", mostly_slow([float("nan"), float("inf")], quick=math.isinf))
@pytest.mark.parametrize("shuffled", [False, True])
def test_training_stops_and_names_model_step_and_example(tmp_path, who, whom, value, shuffled):
    sampling = {} if shuffled else {"train_sampling_strategy": "sequential"}
    trainer = run(tmp_path, who, value=value, **sampling)
    before = flat_weights(trainer.model)
    with pytest.raises(
        BadBatch, match=f"{whom} gives .* for the training examples 13 .key [0-9a-f]{{32}}.. {NOTHING}"
    ) as e:
        trainer.train()
    assert f"step {trainer.state.global_step}: micro-batch" in str(e.value)
    assert shuffled or "step 3: micro-batch 0 on rank 0" in str(e.value)
    assert torch.isfinite(flat_weights(trainer.model)).all()
    assert trainer.state.global_step == 0 or not torch.equal(flat_weights(trainer.model), before)


@pytest.mark.parametrize("head", mostly_slow(["masked_lm", "causal_lm"], quick=lambda head: head == "causal_lm"))
@pytest.mark.parametrize("who", ["teacher", "model"])
def test_rows_of_a_vocabulary_are_traced_to_their_example(tmp_path, head, who):
    # A hook on the outputs sees whole logits only.
    trainer = run(tmp_path, "none", head=head)
    trainer.distillation.reader.whole_logits = True
    answer_badly(
        trainer.teacher.model if who == "teacher" else trainer.model,
        examples(head, count=16)[13]["input_ids"],
        float("nan"),
    )
    trainer.teacher._row_head.problem = "tests look at whole logits"
    with pytest.raises(BadBatch, match="for the training examples 13 "):
        trainer.train()


def test_a_step_that_is_left_out_changes_neither_weights_nor_moments(tmp_path):
    kept = trained(run(tmp_path, "teacher", on_bad_batch="skip", train_sampling_strategy="sequential"))
    assert len(kept) == 8
    unchanged = [torch.equal(one, two) for one, two in pairwise(kept)]
    assert [step + 1 for step, same in enumerate(unchanged) if same] == [3, 7]


def test_the_steps_after_one_that_is_left_out_are_those_of_a_run_without_it(tmp_path):
    skipping = run(tmp_path, "teacher", on_bad_batch="skip", train_sampling_strategy="sequential", max_steps=5)
    trained(skipping)
    data = examples("classification", count=16)
    without = run(
        tmp_path, "none", train_dataset=data[:12] + data[:4], train_sampling_strategy="sequential", max_steps=4
    )
    trained(without)
    assert torch.equal(flat_weights(skipping.model), flat_weights(without.model))


def test_the_log_counts_what_was_left_out_and_stays_finite(tmp_path):
    trainer = run(tmp_path, "teacher", on_bad_batch="skip", logging_nan_inf_filter=False)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 8
    assert all(torch.isfinite(torch.tensor(losses)))
    assert max(entry.get("skipped_steps", 0) for entry in trainer.state.log_history) == 2
    json.dumps(trainer.state.log_history)


def test_a_student_that_has_diverged_is_not_skipped_for_ever(tmp_path):
    trainer = run(tmp_path, "none", on_bad_batch="skip", max_steps=100)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    with pytest.raises(BadBatch, match=f"had diverged before .* the {MOST_SKIPPED}th step in a row"):
        trainer.train()
    assert trainer.state.global_step == MOST_SKIPPED - 1


class SpoilsGradient(TrainerCallback):
    """Makes one gradient infinite behind a finite loss."""

    def __init__(self, step: int) -> None:
        self.step = step

    def spoil(self, trainer: ProgressiveDistillTrainer) -> None:
        parameter = next(trainer.model.parameters())
        parameter.register_hook(lambda grad: grad * float("inf") if trainer.state.global_step == self.step else grad)


@pytest.mark.parametrize("most", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_stops_training_though_the_loss_is(tmp_path, most):
    trainer = run(tmp_path, "none", max_grad_norm=most)
    SpoilsGradient(5).spoil(trainer)
    with pytest.raises(BadBatch, match=f"step 5: the gradient is not finite, though all losses are. {NOTHING}"):
        trainer.train()
    assert torch.isfinite(flat_weights(trainer.model)).all()


def test_leaving_out_steps_is_refused_where_the_engine_steps_inside_the_backward():
    with pytest.raises(ValueError, match="on_bad_batch: stop, or FSDP2 instead of DeepSpeed"):
        refuse_skipping("skip", DistributedType.DEEPSPEED)
    refuse_skipping("stop", DistributedType.DEEPSPEED)
    refuse_skipping("skip", DistributedType.FSDP)
