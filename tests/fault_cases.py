"""Faults of one of two ranks, each noted with its time and step just before it happens; `fault_table` tells of them.

`live` is run by `launching.run_forked`.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from faulty_ranks import trainer_of, weights
from launching import save_found
from transformers import TrainerCallback

from hf_distill import ProgressiveDistillTrainer
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint

STEP = 8
"""Steps that are done when a fault comes in the middle of one; a checkpoint is saved at every third."""
SAVED = 9
"""Steps that are done when a fault comes in the middle of a save."""
NOTE = "fault.json"
RUN = "run"


class Fault(NamedTuple):
    """A fault.

    Attributes:
        happens: To the run, for people.
        inject: What is done to this rank.
        test: Where it is tested.
        rank: Which one it befalls.
        step: Steps done by then.
        settings: What the run is started with.
        says: What a rank has to write then.
    """

    happens: str
    inject: Callable[[ProgressiveDistillTrainer], None]
    test: str
    rank: int = 1
    step: int = STEP
    settings: Mapping[str, Any] = MappingProxyType({})
    says: str = ""


class At(TrainerCallback):
    """Injects a fault at the beginning of a step, or right before a save."""

    def __init__(self, trainer: ProgressiveDistillTrainer, fault: Fault, note: Path) -> None:
        self.trainer, self.fault, self.note = trainer, fault, note

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.fault.step and self.fault.step == STEP:
            self.come()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.fault.step and self.fault.step == SAVED:
            self.come()

    def come(self) -> None:
        self.note.write_text(json.dumps({"time": time.time(), "step": self.fault.step}))
        self.fault.inject(self.trainer)


def send(number: int) -> Callable[[ProgressiveDistillTrainer], None]:
    return lambda trainer: os.kill(os.getpid(), number)


def kill_in_save(trainer: ProgressiveDistillTrainer) -> None:
    """SIGKILL once the checkpoint's folder is asked for: the other rank has begun to write."""

    def kill(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.mkdir" and f"checkpoint-{SAVED}" in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)


def fill_disk(trainer: ProgressiveDistillTrainer) -> None:
    """Let files grow to 20 KB only; what writes more is told, as on a full disk. What is printed may go to a file."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def spoil(value: float) -> Callable[[ProgressiveDistillTrainer], None]:
    """Let the teacher say nothing finite in this step."""

    def inject(trainer: ProgressiveDistillTrainer) -> None:
        def answer(_module: Any, _inputs: Any, output: Any) -> Any:
            if trainer.state.global_step == STEP:
                output.logits = torch.full_like(output.logits, value)
            return output

        trainer.teacher.model.register_forward_hook(answer)

    return inject


def exhaust(trainer: ProgressiveDistillTrainer) -> None:
    """Let the student's forward ask for more memory than any machine has."""
    trainer.model.register_forward_pre_hook(lambda *_: torch.empty(2**58))


RANKS = "tests/multiprocess/test_a_fault_of_one_rank_is_everybodys.py"
FAULTS = {
    "SIGKILL of a rank": Fault("the other stops at the next exchange", send(signal.SIGKILL), RANKS),
    "SIGKILL of a rank in the middle of a save": Fault(
        "the other stops; the unfinished checkpoint is passed over",
        kill_in_save,
        "tests/multiprocess/test_engines_go_on.py",
        step=SAVED,
    ),
    "SIGTERM to a rank": Fault(
        "all finish the step, save, and end with exit code 143",
        send(signal.SIGTERM),
        RANKS,
        rank=0,
        says="SIGTERM: saving a checkpoint of step 9 and stopping",
    ),
    "full disk during a save": Fault(
        "the unfinished checkpoint is removed, the newest whole one named",
        fill_disk,
        "tests/faults/test_full_disk.py",
        rank=0,
        step=SAVED,
        says="the disk is full: checkpoint-9 could not be written and was removed",
    ),
    "NaN from the teacher": Fault(
        "all stop before the step; rank, micro-batch and examples are named",
        spoil(float("nan")),
        "tests/faults/test_bad_batch.py",
        says="on rank 1 has the loss nan; the teacher gives numbers that are not finite for the training examples",
    ),
    "infinite logits from the teacher, `on_bad_batch: skip`": Fault(
        "all leave out the step, with a warning that names the examples",
        spoil(float("inf")),
        "tests/faults/test_bad_batch.py",
        settings={"on_bad_batch": "skip"},
        says="The step is left out (on_bad_batch: skip)",
    ),
    "a rank hangs, `ddp_timeout: 10`": Fault(
        "all stop with exit code 75; who is behind, where, and every stack are written",
        lambda trainer: threading.Event().wait(),
        "tests/faults/test_hang_watch.py",
        settings={"ddp_timeout": 10},
        says="training hangs: rank 1 of 2",
    ),
    "a rank runs out of memory": Fault(
        "it says in which part of a step, what is largest and what to change; the other stops",
        exhaust,
        "tests/faults/test_out_of_memory.py",
        says="To make the largest part smaller: ",
    ),
}


def live(folder: Path, name: str | None) -> None:
    """Train from the newest whole checkpoint to the end, or to a fault."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    fault = FAULTS[name] if name is not None else None
    trainer = trainer_of(folder, RUN, **(fault.settings if fault is not None else {}))
    if fault is not None and trainer.accelerator.process_index == fault.rank:
        trainer.add_callback(At(trainer, fault, folder / NOTE))
    last = find_last_whole_checkpoint(folder / RUN)
    trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    save_found({"weights": weights(trainer)}, folder)
