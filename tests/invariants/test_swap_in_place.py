"""Invariant 7: a swap changes the weights of the teacher in place, all of them, and nothing else."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from builders import HEADS, bert_config, distill_trainer, examples, save_teacher_run, tiny_model
from safetensors.torch import load_file, save_file
from tiers import mostly_slow
from transformers import BertForSequenceClassification, PreTrainedModel

from hf_distill import TeacherSequence
from hf_distill.models.compatibility import auto_class_of

STEPS = (10, 20, 30)


def attached(folder: Path, head: str) -> TeacherSequence:
    teacher = TeacherSequence(folder)
    teacher.attach(head=head, accelerator=Accelerator(cpu=True))
    return teacher


def addresses(model: torch.nn.Module) -> dict[str, int]:
    return {name: value.data_ptr() for name, value in model.state_dict(keep_vars=True).items()}


def with_old_names(folder: Path) -> Path:
    """Give every checkpoint but the first the parameter names of 2019, which transformers converts on loading."""
    for step in STEPS[1:]:
        file = folder / f"checkpoint-{step}" / "model.safetensors"
        renamed = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): t for name, t in load_file(file).items()}
        assert any("gamma" in name for name in renamed)
        save_file(renamed, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("head", "names"),
    mostly_slow(
        [
            *((head, "as the module's") for head in HEADS),
            *((head, "converted on loading") for head in HEADS if head not in ("causal_lm", "seq2seq_lm")),
        ],
        quick=lambda head, names: head in ("classification", "causal_lm"),
    ),
)
def test_the_same_memory_holds_what_a_fresh_load_of_the_revision_would(tmp_path, head, names):
    folder = save_teacher_run(tmp_path, head, steps=STEPS)
    if names == "converted on loading":
        with_old_names(folder)
    teacher = attached(folder, head)
    teacher.enter(0)
    model, before = teacher.model, addresses(teacher.model)
    for index in (1, 2, 0, 2):
        teacher.read_ahead(index)
        teacher.enter(index)
        auto_class = auto_class_of(head, teacher.config)
        fresh = auto_class.from_pretrained(folder / f"checkpoint-{STEPS[index]}").state_dict()
        assert teacher.model is model
        assert addresses(model) == before
        assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_no_second_model_stays_in_memory(tmp_path):
    teacher = attached(with_old_names(save_teacher_run(tmp_path, steps=STEPS)), "classification")
    teacher.enter(0)
    gc.collect()
    alive = sum(isinstance(thing, PreTrainedModel) for thing in gc.get_objects())
    for index in (1, 2):
        teacher.enter(index)
    gc.collect()
    assert sum(isinstance(thing, PreTrainedModel) for thing in gc.get_objects()) == alive


@pytest.mark.parametrize("other", ["narrower", "shallower", "more labels"])
def test_a_revision_with_other_shapes_is_refused_and_changes_nothing(tmp_path, other):
    save_teacher_run(tmp_path, steps=STEPS)
    changes = {
        "narrower": {"hidden_size": 8, "intermediate_size": 16},
        "shallower": {"num_hidden_layers": 1},
        "more labels": {"num_labels": 4},
    }[other]
    config = bert_config(**{"num_labels": 3, **changes})
    BertForSequenceClassification(config).save_pretrained(tmp_path / "checkpoint-20")
    teacher = attached(tmp_path, "classification")
    teacher.enter(0)
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    places = addresses(teacher.model)
    with pytest.raises(ValueError, match=r"'checkpoint-20' of .* does not fit the teacher in memory"):
        teacher.enter(1)
    assert teacher.current == 0
    assert addresses(teacher.model) == places
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    teacher.enter(2)
    assert teacher.current == 2


@pytest.mark.parametrize("names", ["as the module's", "converted on loading"])
def test_loading_reading_ahead_and_swapping_leave_no_trace_in_global_state(tmp_path, names):
    """Whether and when a teacher is swapped must not move the student's dropout, data order or number format."""
    save_teacher_run(tmp_path, steps=STEPS)
    if names == "converted on loading":
        with_old_names(tmp_path)
    torch.manual_seed(5)
    numpy_generator = np.random.get_state()  # noqa: NPY002  (the global one is what Trainer saves)
    states = (torch.get_rng_state(), random.getstate(), torch.get_default_dtype(), torch.get_default_device())
    teacher = attached(tmp_path, "classification")
    assert teacher.forward_arguments
    for index in (0, 1, 2):
        teacher.enter(index)
        teacher.read_ahead((index + 1) % 3)
    teacher.close()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), torch.get_default_dtype(), torch.get_default_device()) == states[1:]
    now = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(now, numpy_generator, strict=True))
    assert torch.is_grad_enabled()


def test_students_dropout_does_not_depend_on_how_often_the_teacher_is_swapped(tmp_path):
    """Three identical revisions in turn teach what one of them teaches."""
    for step in STEPS:
        tiny_model("classification", seed=10).save_pretrained(tmp_path / "teacher" / f"checkpoint-{step}")
    finals = []
    for name, curriculum in (("n", {"name": "n_shot", "steps": 2}), ("one", {"name": "one_shot"})):
        trainer = distill_trainer(
            tmp_path / name,
            model=tiny_model("classification", seed=1, hidden_dropout_prob=0.3),
            teacher=TeacherSequence(tmp_path / "teacher"),
            train_dataset=examples("classification", count=24),
            curriculum=curriculum,
            max_steps=6,
        )
        trainer.train()
        finals.append(trainer.model.state_dict())
    assert all(torch.equal(finals[0][name], finals[1][name]) for name in finals[1])
