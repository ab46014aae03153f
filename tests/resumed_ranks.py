"""Runs of any engine, on processes of a group, that save a checkpoint on their way, and runs that go on from it.

The functions with a folder are run by `launching.run_forked`.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import examples, tiny_model
from engines import FSDP2, assert_engine, engine_config, whole_weights
from launching import Found, save_found
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_distill import ProgressiveDistillTrainer, TeacherSequence

STEPS, EVERY = 6, 3
HEAD = "classification"
WIDER = 24
PROJECTED = {"name": "hidden_mse", "layers": "uniform", "projector": "linear", "weight": 0.1}
N_SHOT = {"name": "n_shot", "steps": 2, "objectives": [{"name": "forward_kl"}, PROJECTED]}
"""Three revisions of two steps each: the checkpoint is from the middle of one, and another is yet to come."""
CASES: dict[str, dict[str, Any]] = {
    "dropout": {
        "curriculum": {**N_SHOT, "intra": {"passes": 2, "alpha": 1.0}},
        "hidden_dropout_prob": 0.2,
        "max_grad_norm": 1.0,
    },
    "extraction": {"curriculum": {"name": "extraction", "steps": 2, "projection_seed": 5}, "at_switch": "continue"},
    # With an epsilon that is seen, so that the rounding of small gradients is no step of its own.
    "steady": {"curriculum": N_SHOT, "max_grad_norm": 0.0, "adam_epsilon": 1e-3},
}
# Of FSDP2 alone: each process writes its own part of weights and optimizer.
CASES["parts"] = {**CASES["steady"], "fsdp_config": {**FSDP2, "state_dict_type": "SHARDED_STATE_DICT"}}


def trainer_of(engine: str, case: str, folder: Path, *, seed: int) -> ProgressiveDistillTrainer:
    """A run with everything that could resume wrongly: shuffled data, moments, a decaying rate, switches that forget
    the moments, what is trained beside the student, and dropout. A step is eight examples on any number of ranks."""
    settings = {"at_switch": "reset_optimizer", **CASES[case]}
    student = {"hidden_dropout_prob": settings.pop("hidden_dropout_prob", 0.0)}
    args = engine_config(
        engine,
        folder / case,
        **{
            "max_steps": STEPS,
            "save_strategy": "steps",
            "save_steps": EVERY,
            "per_device_train_batch_size": 4 // int(os.environ.get("WORLD_SIZE", "1")),
            "gradient_accumulation_steps": 2,
            "optim": "adamw_torch",
            "learning_rate": 5e-3,
            "lr_scheduler_type": "cosine",
            **settings,
        },
    )
    return ProgressiveDistillTrainer(
        model=tiny_model(HEAD, seed=seed, **student),
        teacher=TeacherSequence(str(folder / "teacher")),
        args=args,
        train_dataset=examples(HEAD, count=40),
    )


def prepare(folder: Path) -> Path:
    """Write the teacher's checkpoints."""
    for step in (10, 20, 30):
        tiny_model(HEAD, seed=step, hidden_size=WIDER).save_pretrained(folder / "teacher" / f"checkpoint-{step}")
    return folder


def end_of(trainer: ProgressiveDistillTrainer, engine: str) -> torch.Tensor:
    """Return where a run ended: the student, and what is trained beside it."""
    if trainer.accelerator.num_processes > 1:
        assert_engine(trainer, engine)
    weights = whole_weights(trainer.model)
    trainer.save_model()
    if trainer.is_world_process_zero():
        saved = load_file(Path(trainer.args.output_dir) / "model.safetensors")
        assert all(torch.equal(saved[name].double(), weight) for name, weight in weights.items())
    beside = [parameter.detach().flatten().double() for parameter in trainer.readout_parameters()]
    return torch.cat([*(weights[name].flatten() for name in sorted(weights)), *beside])


def trained(engine: str, case: str, folder: Path, *, resume: str | bool | None = None) -> torch.Tensor:
    """Train to the end; a run that goes on begins with other weights and random numbers than those of its start."""
    trainer = trainer_of(engine, case, folder, seed=1 if resume is None else 5)
    if resume is not None:
        torch.rand(7)
    trainer.train(resume_from_checkpoint=resume)
    return end_of(trainer, engine)


def train_and_go_on(folder: Path, engine: str, cases: list[str]) -> None:
    """Train to the end, and from the checkpoint on the way once more."""
    found: Found = {}
    for case in cases:
        found[f"{case}/whole"] = trained(engine, case, folder)
        checkpoint = folder / case / f"checkpoint-{EVERY}"
        found[f"{case}/resumed"] = trained(engine, case, folder, resume=str(checkpoint))
    save_found(found, folder)


def go_on(folder: Path, engine: str, cases: list[str]) -> None:
    """Go on from the newest whole checkpoint of each case."""
    save_found({f"{case}/resumed": trained(engine, case, folder, resume=True) for case in cases}, folder)


def go_on_elsewhere(folder: Path, engine: str, cases: list[str]) -> None:
    """Do the same on another number of processes; under DeepSpeed be refused, and do first what the refusal says."""
    for case in cases if engine.startswith("zero") else []:
        with pytest.raises(ValueError, match=rf"was saved with DeepSpeed ZeRO-{engine[-1]} on \d process") as refused:
            trained(engine, case, folder, resume=True)
        (command,) = (
            one.split() for one in str(refused.value).splitlines() if one.startswith("  python -m deepspeed")
        )
        if torch.distributed.get_rank() == 0:
            subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
        torch.distributed.barrier()
    go_on(folder, engine, cases)


class EndInSave(TrainerCallback):
    """Ends this process while the last checkpoint is saved, without a chance to say so.

    Args:
        size: Bytes of a file at which the kernel ends it, in the middle of the write; None for SIGKILL before it
            writes anything.
    """

    def __init__(self, size: int | None) -> None:
        self.size = size

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != STEPS:
            return
        if self.size is None:
            sys.addaudithook(kill_at_a_folder)
        else:
            # Whatever is printed goes to files, too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout.fileno(), sys.stderr.fileno(), 1, 2):
                os.dup2(nowhere, stream)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it.
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def kill_at_a_folder(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.mkdir" and f"checkpoint-{STEPS}" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)


def end_in_save(folder: Path, engine: str, case: str, rank: int, size: int | None) -> None:
    """Train until one rank ends in the save of the last checkpoint; see `EndInSave`."""
    trainer = trainer_of(engine, case, folder, seed=1)
    if trainer.accelerator.process_index == rank:
        trainer.add_callback(EndInSave(size))
    trainer.train()
