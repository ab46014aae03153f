"""Started by torchrun: two processes of which one meets a fault; what each does then is written down, if it lives."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from builders import distill_trainer, examples, save_teacher_run, tiny_model
from launching import Found, assert_wrapped, save_found
from torch.utils.data import default_collate

from hf_distill import ProgressiveDistillTrainer, TeacherSequence
from hf_distill.faults.bad_batch import BadBatch
from hf_distill.faults.preemption import Preempted

STEPS = 12
HEAD = "classification"
BAD = 13
"""The example of which the teacher says nothing finite: in the first step, on the second rank."""


def trainer_of(folder: Path, name: str, at_batch: Callable[[int], None] = lambda batch: None, **overrides: Any):
    """A run with a teacher switch, moments, dropout and checkpoints; `at_batch` hears of each of its batches."""
    fetched = [0]

    def collate(items: list[Any]) -> dict[str, torch.Tensor]:
        at_batch(fetched[0])
        fetched[0] += 1
        return default_collate(items)

    settings = {
        "curriculum": {"name": "n_shot", "steps": 4},
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": 2,
        "optim": "adamw_torch",
        "learning_rate": 5e-3,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
        **overrides,
    }
    return distill_trainer(
        folder / name,
        HEAD,
        model=tiny_model(HEAD, seed=1, hidden_dropout_prob=0.2),
        teacher=settings.pop("teacher", None) or TeacherSequence(str(folder / "teacher")),
        train_dataset=examples(HEAD, count=24),
        data_collator=collate,
        **settings,
    )


def rank() -> int:
    return PartialState().process_index


def weights(trainer: ProgressiveDistillTrainer) -> torch.Tensor:
    assert_wrapped(trainer)
    return torch.cat([value.flatten().double() for value in trainer.model.state_dict().values()])


def spoiled_teacher() -> torch.nn.Module:
    teacher, ids = tiny_model(HEAD, seed=7), examples(HEAD, count=24)[BAD]["input_ids"]

    def spoil(_module: Any, _inputs: Any, named: dict[str, Any], output: Any) -> Any:
        bad = (named["input_ids"] == ids).all(-1)
        output.logits = output.logits.masked_fill(bad.unsqueeze(-1), float("nan"))
        return output

    teacher.register_forward_hook(spoil, with_kwargs=True)
    return teacher


# ---- faults that the ranks end by themselves ----


def end_well(folder: Path) -> Found:
    """A bad batch of one rank, left out or not; SIGTERM on one rank, and the run after it; a run without a fault."""
    said: dict[str, Any] = {}
    bad = {"curriculum": "one_shot", "train_sampling_strategy": "sequential", "save_strategy": "no"}
    stopping = trainer_of(folder, "stopping", teacher=spoiled_teacher(), **bad)
    try:
        stopping.train()
    except BadBatch as error:
        said["bad batch"] = [str(error), stopping.state.global_step]
    skipping = trainer_of(folder, "skipping", teacher=spoiled_teacher(), on_bad_batch="skip", **bad)
    skipping.train()

    def terminate(batch: int) -> None:
        if rank() == 0 and batch == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = trainer_of(folder, "preempted", terminate)
    try:
        stopped.train()
    except Preempted as error:
        said["preempted"] = [error.code, stopped.state.global_step]
    resumed = trainer_of(folder, "preempted")
    resumed.train(resume_from_checkpoint=True)
    whole = trainer_of(folder, "whole")
    whole.train()
    (folder / f"said{rank()}.json").write_text(json.dumps(said))
    return {name: weights(one) for name, one in (("skipped", skipping), ("resumed", resumed), ("whole", whole))}


# ---- faults that somebody else has to end ----


def hang(folder: Path) -> None:
    """The second rank waits for ever in its collator."""

    def wait(batch: int) -> None:
        if rank() == 1 and batch == 5:
            threading.Event().wait()

    trainer_of(folder, "hung", wait, ddp_timeout=4).train()


def kill(folder: Path) -> None:
    """The second rank is killed while it fetches a batch."""

    def end(batch: int) -> None:
        if rank() == 1 and batch == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer_of(folder, "killed", end).train()


def resume(folder: Path) -> Found:
    """What the killed run ends with."""
    resumed = trainer_of(folder, "killed")
    resumed.train(resume_from_checkpoint=True)
    return {"resumed": weights(resumed)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, target = sys.argv[1], Path(sys.argv[2])
    with PartialState(cpu=True).main_process_first():
        if rank() == 0 and not (target / "teacher").exists():
            save_teacher_run(target / "teacher")
    results = {"end_well": end_well, "hang": hang, "kill": kill, "resume": resume}[what](target)
    if results is not None:
        save_found(results, target)
