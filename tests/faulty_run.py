"""Training runs in processes of their own that meet a fault: a signal, a full disk, a kill while a file is written."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from builders import save_teacher_run
from killed_run import FIXED, make_trainer
from transformers import TrainerCallback


class SignalAt(TrainerCallback):
    """Sends this process a signal in the middle of a step, and once more before it ends."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_substep_end(args, state, control)


def train_until_signal(folder: Path, teacher: Path, step: int) -> None:
    """Train; SIGTERM comes in the middle of a step."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    trainer = make_trainer(folder, teacher, FIXED, None)
    trainer.add_callback(SignalAt(step, signal.SIGTERM))
    trainer.train()


def train_until_file(folder: Path, teacher: Path, step: int, file: int) -> None:
    """Train until the `file`-th file of a step's checkpoint is opened for writing: a part of it is written."""
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or f"checkpoint-{step}{os.sep}" not in str(arguments[0]):
            return
        if arguments[2] & (os.O_WRONLY | os.O_RDWR):
            opened.append(str(arguments[0]))
            if len(opened) == file:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    make_trainer(folder, teacher, FIXED, None).train()


class SmallDiskAt(TrainerCallback):
    """From a step on, lets files grow to so many bytes only; Python is told, as on a full disk, not killed."""

    def __init__(self, step: int, size: int) -> None:
        self.step, self.size = step, size

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def train_on_small_disk(folder: Path, teacher: Path, step: int, size: int) -> None:
    """Train; from a step on no file can be larger than `size`."""
    trainer = make_trainer(folder, teacher, FIXED, None)
    trainer.add_callback(SmallDiskAt(step, size))
    trainer.train()


def teacher_of(folder: Path) -> Path:
    return save_teacher_run(folder / "teacher")
