"""Every kind of teacher source on tiny classifiers, for the tests that all of them have to pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from builders import as_read, distill_trainer, examples, save_teacher_run, tiny_model
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.data import default_collate

from hf_distill import LiveTeacher, ProgressiveDistillTrainer, TeacherSequence
from hf_distill.teachers import (
    AdapterOffTeacher,
    DifficultyRouter,
    EmaTeacher,
    EnsembleTeacher,
    LadderTeacher,
    PrunedMixTeacher,
    TeacherSource,
)

DROPOUT = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
HEAD = "classification"
SMALL = {"hidden_size": 8, "intermediate_size": 8}
LARGE = {"num_hidden_layers": 3}
LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.3, "target_modules": ["query", "value"]}
LOGITS = frozenset({"teacher.logits", "teacher.live"})
LAYERS = LOGITS | {"teacher.hidden_states", "teacher.attentions"}
ALL = LAYERS | {"teacher.embeddings"}
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Case(NamedTuple):
    """A source, and what is to be expected of it."""

    name: str
    build: Callable[[Path], TeacherSource]
    provides: frozenset[str]
    of_student: bool = False
    kept: str | None = None
    """The file of its own state in checkpoints."""


def teacher_model(seed: int = 7, **overrides: Any) -> nn.Module:
    return tiny_model(HEAD, seed=seed, **DROPOUT, **overrides)


def ladder(router: DifficultyRouter | None = None) -> LadderTeacher:
    rungs = [teacher_model(3, **SMALL), teacher_model(4), teacher_model(5, **LARGE)]
    return LadderTeacher(rungs, router=router or DifficultyRouter(examples=8))


CASES = [
    Case("live", lambda folder: LiveTeacher(teacher_model()), ALL),
    Case("sequence", lambda folder: TeacherSequence(save_teacher_run(folder / "teacher", steps=(10,))), ALL),
    Case("ensemble", lambda folder: EnsembleTeacher([teacher_model(7), teacher_model(8, **SMALL)]), LOGITS),
    Case("ladder", lambda folder: ladder(), LOGITS, kept="ladder.safetensors"),
    Case("pruned_mix", lambda folder: PrunedMixTeacher(teacher_model(), rate=0.5), LOGITS),
    Case("ema", lambda folder: EmaTeacher(0.9), ALL, of_student=True, kept="ema_teacher.safetensors"),
    Case("adapter_off", lambda folder: AdapterOffTeacher(), LAYERS, of_student=True),
]


def student_model(case: Case) -> Any:
    model = tiny_model(HEAD, seed=1, **(DROPOUT if case.of_student else {}))
    if case.name != "adapter_off":
        return model
    torch.manual_seed(2)
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **LORA))
    # As after some training: a fresh adapter changes nothing.
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return adapted


def trainer_of(case: Case, folder: Path, **overrides: Any) -> ProgressiveDistillTrainer:
    """Build a trainer whose teacher is the source. A self-teacher starts as its student: labels set it going."""
    values = {
        "model": student_model(case),
        "teacher": case.build(folder),
        "curriculum": {"name": "one_shot", "label_mix": 0.5},
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": 8,
        **overrides,
    }
    return distill_trainer(folder / "run", HEAD, **values)


def begun(case: Case, folder: Path, **overrides: Any) -> ProgressiveDistillTrainer:
    """Build the trainer and go as far as the first step."""
    trainer = trainer_of(case, folder, **overrides)
    trainer.distillation.begin(step=0, max_steps=4)
    trainer.calibrate_readouts()
    trainer.model.train()
    return trainer


def batch_of(count: int = 8, *, head: str = HEAD) -> dict[str, Tensor]:
    return as_read(head, default_collate(examples(head, count=count)))
