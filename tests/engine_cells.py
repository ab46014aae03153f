"""Every kind of head under every way of distilling, three steps each, run by one engine on two CPU processes.

Started by torchrun with an engine's name, a folder and what `prepare` made. Imported, it runs them in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from builders import examples, save_teacher_run, scale_passes, tiny_model
from cache_cases import FLOAT_HIDDEN, LOGITS, make_walk
from engines import assert_engine, engine_config, share_held, whole_weights
from launching import Found, save_found
from peft import LoraConfig, get_peft_model
from torch import nn

from hf_distill import ProgressiveDistillTrainer, TeacherSequence
from hf_distill.cache.targets import cache_targets
from hf_distill.seq2seq_trainer import ProgressiveDistillSeq2SeqConfig, ProgressiveDistillSeq2SeqTrainer
from hf_distill.teachers.cached import CachedTeacher

HEADS = ("classification", "masked_lm", "causal_lm", "seq2seq_lm")
STEPS = 3
N_SHOT = {"name": "n_shot", "steps": 1}
WRITING = {"predict_with_generate": True, "generation_max_length": 6}
ADAPTED = {"causal_lm": ["c_attn"], "seq2seq_lm": ["q", "v"]}
WIDE = {"causal_lm": {"n_embd": 24}}


class Way(NamedTuple):
    """A way of distilling: what differs from one teacher's logits."""

    student: Callable[[str], nn.Module] = lambda head: tiny_model(head, seed=1)
    teacher: Callable[[str, Path], Any] = lambda head, folder: tiny_model(head, seed=7)
    arguments: Mapping[str, Any] = MappingProxyType({})
    data: Callable[[str], list[dict[str, torch.Tensor]]] = lambda head: data_of(head)


def with_passes(head: str) -> nn.Module:
    student = tiny_model(head, seed=1)
    scale_passes(student, passes=2)
    return student


def with_adapter(head: str) -> nn.Module:
    torch.manual_seed(2)
    task = {"classification": "SEQ_CLS", "causal_lm": "CAUSAL_LM", "seq2seq_lm": "SEQ_2_SEQ_LM"}.get(head)
    targets = ADAPTED.get(head, ["query", "value"])
    config = LoraConfig(task_type=task, r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False)
    return get_peft_model(tiny_model(head, seed=1), config)


def with_a_bare_micro_batch(head: str) -> list[dict[str, torch.Tensor]]:
    """Return examples of which the first step's on the second rank begin with a micro-batch that nothing counts in."""
    made = data_of(head)
    for one in made[2:4] if head != "classification" else []:
        one["labels"] = torch.full_like(one["labels"], -100)
    return made


PROJECTED = {"name": "hidden_mse", "layers": "uniform", "projector": "linear", "weight": 1.0}
CLIPPED_TO = 0.3
WAYS = {
    "logits": Way(),
    # Without an epsilon that is seen, Adam's first steps turn the rounding of small gradients into signs.
    "adam": Way(arguments={"optim": "adamw_torch", "learning_rate": 0.01, "adam_epsilon": 1e-3, "max_grad_norm": 0.5}),
    "projector": Way(
        teacher=lambda head, folder: tiny_model(head, seed=7, **WIDE.get(head, {"hidden_size": 24})),
        arguments={
            "curriculum": {"name": "one_shot", "objectives": [{"name": "forward_kl"}, PROJECTED]},
            "max_grad_norm": CLIPPED_TO,
        },
    ),
    "passes": Way(
        student=with_passes, arguments={"curriculum": {"name": "one_shot", "intra": {"passes": 2, "alpha": 1.0}}}
    ),
    "cached": Way(
        teacher=lambda head, folder: CachedTeacher(folder / f"cache-{head}"), arguments={"curriculum": N_SHOT}
    ),
    "switch": Way(
        teacher=lambda head, folder: TeacherSequence(str(folder / f"teacher-{head}")), arguments={"curriculum": N_SHOT}
    ),
    "lora": Way(student=with_adapter),
    # Whole where the engine leaves the student whole.
    "sharded": Way(
        teacher=lambda head, folder: TeacherSequence(str(folder / f"teacher-{head}"), sharded=True),
        arguments={"curriculum": N_SHOT},
        data=with_a_bare_micro_batch,
    ),
}
# What a decoder's targets depend on is more than what examples are cached by.
CELLS = [(way, head) for way in WAYS for head in HEADS if (way, head) != ("cached", "seq2seq_lm")]
KEYS = ("losses", "update", "beside", "held out")


class Deviation(NamedTuple):
    """How far a cell ended from the same cell in one process: the largest relative difference of a step's loss, those
    of the whole update of the student and of what is trained beside it, and the difference of a held-out metric."""

    losses: float
    update: float
    beside: float
    held_out: float


def prepare(folder: Path) -> None:
    """Write the teachers' checkpoints and caches that the cells read."""
    for head in HEADS:
        teacher = save_teacher_run(folder / f"teacher-{head}", head)
        if ("cached", head) not in CELLS:
            continue
        codec = LOGITS if head == "classification" else FLOAT_HIDDEN
        walk = make_walk(
            folder / f"walk-{head}",
            head,
            TeacherSequence(str(teacher)),
            data_of(head),
            curriculum=N_SHOT,
            max_steps=STEPS,
            per_device_train_batch_size=8,
            train_sampling_strategy="sequential",
        )
        cache_targets(folder / f"cache-{head}", [walk], codec=codec)


def data_of(head: str) -> list[dict[str, torch.Tensor]]:
    return examples(head, count=8 * STEPS)


def trainer_of(way: str, head: str, engine: str, prepared: Path, folder: Path) -> ProgressiveDistillTrainer:
    """Make the trainer of a cell: eight examples a step, in one micro-batch or in two on each of two ranks."""
    one, data = WAYS[way], WAYS[way].data(head)
    split, writes = engine != "alone", head == "seq2seq_lm"
    args = engine_config(
        engine,
        folder,
        **{
            "curriculum": "one_shot",
            "max_steps": STEPS,
            "train_sampling_strategy": "sequential",
            "per_device_train_batch_size": 2 if split else 8,
            "gradient_accumulation_steps": 2 if split else 1,
            "per_device_eval_batch_size": 3,
            **({"config_class": ProgressiveDistillSeq2SeqConfig, **WRITING} if writes else {}),
            **one.arguments,
        },
    )
    return (ProgressiveDistillSeq2SeqTrainer if writes else ProgressiveDistillTrainer)(
        model=one.student(head),
        teacher=one.teacher(head, prepared),
        args=args,
        train_dataset=data,
        eval_dataset=data[:7],
        # Of logits the mean; of what was written the sum, which padding does not change.
        compute_metrics=lambda made: {
            "held_out": float(made.predictions.clip(0).sum() if writes else made.predictions.mean())
        },
    )


def run_cell(way: str, head: str, engine: str, prepared: Path, folder: Path) -> Found:
    """Train; return where it ended: losses, update, what is trained beside the student, held-out predictions."""
    trainer = trainer_of(way, head, engine, prepared, folder)
    before = whole_weights(trainer.model)
    trainer.train()
    assert_engine(trainer, engine)
    after = whole_weights(trainer.model)
    beside = [parameter.detach().flatten().double() for parameter in trainer.readout_parameters()]
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": torch.tensor([entry["loss"] for entry in logged]),
        "norms": torch.tensor([entry["grad_norm"] for entry in logged]),
        "update": torch.cat([(after[name] - before[name]).flatten() for name in sorted(before)]),
        "beside": torch.cat([torch.zeros(0).double(), *beside]),
        "teacher held": torch.tensor(0.0 if way == "cached" else share_held(trainer.teacher.model)),
        # Which pass it is would go on being counted.
        "held out": torch.tensor(0.0 if way == "passes" else trainer.evaluate()["eval_held_out"]),
    }


def found_of(engine: str, prepared: Path, folder: Path) -> Found:
    """Run all cells."""
    return {
        f"{way}/{head}/{key}": value
        for way, head in CELLS
        for key, value in run_cell(way, head, engine, prepared, folder / way / head).items()
    }


def deviation(found: Found, reference: Found, cell: str) -> Deviation:
    """Return how far a cell ended from the reference."""
    one, other = ({key: found[f"{cell}/{key}"] for key in KEYS} for found in (found, reference))
    assert other["update"].norm() > 1e-2
    assert one["losses"].shape == (STEPS,)
    return Deviation(
        losses=((one["losses"] - other["losses"]).abs() / other["losses"]).max().item(),
        update=((one["update"] - other["update"]).norm() / other["update"].norm()).item(),
        beside=((one["beside"] - other["beside"]).norm() / other["beside"].norm().clamp(min=1e-9)).item(),
        held_out=(one["held out"] - other["held out"]).abs().item(),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[2])
    save_found(found_of(sys.argv[1], Path(sys.argv[3]), target), target)
