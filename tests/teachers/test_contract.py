"""What every teacher source must keep, whatever it is made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from builders import flat_weights
from safetensors import safe_open
from source_cases import CASES, PEFT_WARNS, Case, batch_of, begun, student_model, teacher_model, trainer_of
from tiers import mostly_slow
from torch import nn
from updates import assert_same_update, update_of

from hf_distill.teachers import EnsembleTeacher, TeacherSource

pytestmark = PEFT_WARNS
PIN = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}")
HIDDEN = {"name": "one_shot", "objectives": [{"name": "hidden_mse", "projector": "linear"}], "label_mix": 0.5}
SAVED = {"save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch", "max_steps": 4}


EVERY_CASE = [pytest.param(case, id=case.name) for case in CASES]


@pytest.fixture(params=mostly_slow(EVERY_CASE, quick=lambda case: case.name in ("sequence", "ema")))
def case(request) -> Case:
    return request.param


def watched(source: TeacherSource) -> list[tuple[bool, bool]]:
    """Ask for logits; return of each module that ran: whether it was in training, and whether gradients were on."""
    seen: list[tuple[bool, bool]] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
        for module in source.model.modules()
    ]
    source.logits(batch_of())
    for hook in hooks:
        hook.remove()
    return seen


def leaves(entries: list[dict]) -> list[dict]:
    return [leaf for entry in entries for leaf in (leaves(entry["members"]) if entry.get("members") else [entry])]


def test_it_answers_in_eval_mode_and_without_gradient(case, tmp_path):
    trainer = begun(case, tmp_path)
    seen = watched(trainer.teacher)
    assert seen
    assert not any(training or grad for training, grad in seen)
    assert trainer.model.training, "the student's own mode is left alone"
    assert not trainer.teacher.logits(batch_of()).requires_grad


def test_it_says_the_same_twice_and_draws_no_random_number(case, tmp_path):
    source = begun(case, tmp_path).teacher
    before = torch.get_rng_state()
    first, second = source.logits(batch_of()), source.logits(batch_of())
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_gives_what_it_says_it_provides_and_nothing_else(case, tmp_path):
    source = begun(case, tmp_path).teacher
    assert source.provides == case.provides
    if "teacher.hidden_states" in case.provides:
        assert source.hidden_states(batch_of(), [1])[1].shape == (8, 12, 16)
        assert set(source.read(batch_of(), layers=(1, 2), attentions=False).hidden) == {1, 2}
        return
    for refused in (
        lambda: source.hidden_states(batch_of(), [1]),
        lambda: source.read(batch_of(), layers=(1,), attentions=False),
        source.give_attentions,
    ):
        with pytest.raises(ValueError, match=f"a {type(source).__name__} gives logits only"):
            refused()


def test_what_objectives_need_is_compared_with_it_at_construction(case, tmp_path):
    if "teacher.hidden_states" in case.provides:
        trainer = trainer_of(case, tmp_path, curriculum=HIDDEN, max_steps=1)
        trainer.train()
        assert trainer.state.log_history[0]["objective/hidden_mse"] > 0
        return
    with pytest.raises(ValueError, match=r"need \['teacher.hidden_states'\], but \w+ provides only"):
        trainer_of(case, tmp_path, curriculum=HIDDEN)
    assert not any((tmp_path / "run").glob("*"))


def test_everything_it_is_made_of_is_pinned(case, tmp_path):
    trainer = begun(case, tmp_path)
    manifest = trainer.teacher.manifest()
    entries = [*manifest, *leaves(manifest)]
    assert all(PIN.fullmatch(entry["commit"]) for entry in entries)
    again = trainer_of(case, tmp_path / "again").teacher.manifest()
    assert [entry["commit"] for entry in again] == [entry["commit"] for entry in manifest]
    if isinstance(trainer.teacher, EnsembleTeacher):
        assert len(leaves(manifest)) == 2


def test_its_weights_are_its_own(case, tmp_path):
    trainer = begun(case, tmp_path)
    if case.name == "adapter_off":
        assert trainer.teacher.model is trainer.model, "this one is the student, without its adapter"
        return
    ours = {parameter.data_ptr() for parameter in trainer.model.parameters()}
    theirs = list(trainer.teacher.model.parameters())
    assert ours.isdisjoint(parameter.data_ptr() for parameter in theirs)
    assert not any(parameter.requires_grad for parameter in theirs)


def stored(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def test_no_checkpoint_and_no_export_holds_it_in_place_of_the_student(case, tmp_path):
    trainer = trainer_of(case, tmp_path, **SAVED)
    before = flat_weights(trainer.teacher.model) if case.name in ("live", "ensemble", "ladder", "pruned_mix") else None
    trainer.train()
    trainer.save_model()
    folder = tmp_path / "run"
    files = {path.name for path in folder.rglob("*.safetensors")}
    own = "adapter_model.safetensors" if case.name == "adapter_off" else "model.safetensors"
    assert files == {own, *([case.kept] if case.kept else [])}
    assert not [path for path in folder.glob("*.safetensors") if path.name != own], "exported with the student"
    if own == "model.safetensors":
        expected = {name: tuple(tensor.shape) for name, tensor in trainer.model.state_dict().items()}
        assert all(stored(path) == expected for path in folder.rglob(own))
    held = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in trainer.model.parameters() if parameter.requires_grad}
    if before is not None:
        assert torch.equal(flat_weights(trainer.teacher.model), before), "training changed the teacher"


def test_how_a_batch_is_split_does_not_change_what_it_says(case, tmp_path):
    source = begun(case, tmp_path).teacher
    batch = batch_of()
    whole = source.logits(batch)
    for size in (1, 2, 4):
        parts = [{key: value[start : start + size] for key, value in batch.items()} for start in range(0, 8, size)]
        torch.testing.assert_close(torch.cat([source.logits(part) for part in parts]), whole, rtol=1e-5, atol=1e-6)


def test_how_a_window_is_split_does_not_change_the_update(case, tmp_path):
    def update(size: int, steps: int) -> torch.Tensor:
        trainer = trainer_of(
            case,
            tmp_path / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            learning_rate=1.0,
        )
        for module in trainer.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # what is drawn would depend on the split
        return update_of(trainer)

    whole, *parts = (update(*split) for split in ((8, 1), (2, 4), (1, 8)))
    for part in parts:
        assert_same_update(whole, part)


def test_a_resumed_run_ends_with_the_same_weights(case, tmp_path):
    whole = trainer_of(case, tmp_path, **SAVED)
    whole.train()
    resumed = trainer_of(case, tmp_path, **SAVED)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert torch.equal(flat_weights(resumed.model), flat_weights(whole.model))
    assert torch.equal(flat_weights(resumed.teacher.model), flat_weights(whole.teacher.model))


def test_another_teacher_is_not_resumed_with(case, tmp_path):
    trainer_of(case, tmp_path, **SAVED).train()
    other = trainer_of(case, tmp_path, teacher=teacher_model(99), **{**SAVED, "curriculum": "one_shot"})
    with pytest.raises(ValueError, match=r"curriculum|has moved|teacher revisions"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    other = trainer_of(case, tmp_path, teacher=teacher_model(99), **SAVED)
    with pytest.raises(ValueError, match=r"has moved"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_it_answers_again_after_it_was_closed(case, tmp_path):
    """A comparison trains one student after the other with one teacher."""
    source = case.build(tmp_path)
    ends = []
    for name in ("first", "second"):
        trainer = trainer_of(case, tmp_path / name, teacher=source, model=student_model(case))
        trainer.train()
        ends.append(flat_weights(trainer.model))
    assert torch.equal(*ends)


def test_there_is_one_revision_to_enter(case, tmp_path):
    source = begun(case, tmp_path).teacher
    assert len(source.revisions) == 1
    assert source.enter(0) == 0.0
    with pytest.raises((ValueError, IndexError)):
        source.enter(1)


def test_a_source_made_of_the_student_says_so_where_there_is_none(case, tmp_path):
    source = case.build(tmp_path)
    if not case.of_student:
        source.attach(head="classification", accelerator=None)
        assert source.config.num_labels == 3
        return
    with pytest.raises(ValueError, match=r"is made of the student: give it to the trainer"):
        source.attach(head="classification", accelerator=None)
    with pytest.raises(ValueError, match=r"is made of the student: give it to the trainer"):
        EnsembleTeacher([case.build(tmp_path), teacher_model()]).attach(head="classification", accelerator=None)
