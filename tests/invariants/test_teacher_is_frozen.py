"""Invariants 6 and 7: the teacher is in eval mode, without gradient, in no checkpoint and no optimizer, one object."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, save_teacher_run, tiny_model
from safetensors import safe_open
from transformers import TrainerCallback

TWO_SHOT = {"name": "two_shot", "revision": "checkpoint-10", "steps": 2}
SPEC = {
    "curriculum": TWO_SHOT,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "optim": "adamw_torch",
}


class Watch(TrainerCallback):
    """Looks at the teacher after every backward pass, and after every evaluation."""

    def __init__(self) -> None:
        self.trainer = None
        self.modes: list[bool] = []
        self.gradients: list[bool] = []
        self.objects: list[int] = []
        self.addresses: list[tuple[int, ...]] = []

    def look(self) -> None:
        model = self.trainer.teacher.model
        self.modes.append(any(module.training for module in model.modules()))
        self.gradients.append(any(p.requires_grad or p.grad is not None for p in model.parameters()))
        self.objects.append(id(model))
        self.addresses.append(tuple(p.data_ptr() for p in model.parameters()))

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.look()

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self.look()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished two-shot run with dropout in the teacher, what was seen of it, and its folder."""
    folder = tmp_path_factory.mktemp("frozen")
    for step in (10, 20):
        model = tiny_model("classification", seed=step, hidden_dropout_prob=0.3)
        model.save_pretrained(folder / "teacher" / f"checkpoint-{step}")
    trainer = distill_trainer(
        folder / "run", teacher=str(folder / "teacher"), eval_dataset=examples("classification", seed=1), **SPEC
    )
    watch = Watch()
    watch.trainer = trainer
    trainer.add_callback(watch)
    trainer.train()
    trainer.save_model()
    return trainer, watch, folder


def test_dropout_never_acts_in_the_teacher(run):
    _, watch, _ = run
    assert len(watch.modes) == 8
    assert not any(watch.modes)


def test_no_parameter_of_the_teacher_collects_a_gradient(run):
    _, watch, _ = run
    assert not any(watch.gradients)


def test_the_teacher_is_one_object_in_one_place_across_the_swap(run):
    _, watch, _ = run
    assert len(set(watch.objects)) == 1
    assert len(set(watch.addresses)) == 1


def test_training_leaves_the_final_revision_as_it_was_saved(run):
    trainer, _, _ = run
    assert torch.equal(flat_weights(trainer.teacher.model), flat_weights(tiny_model("classification", seed=20)))


def test_the_optimizer_knows_the_student_only(run):
    trainer, _, _ = run
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.parameters()}
    assert held.isdisjoint(id(p) for p in trainer.teacher.model.parameters())


def weights_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors")) + sorted(folder.rglob("*.bin"))


def test_the_teacher_is_in_no_file_that_the_run_left(run):
    """Each weight file holds the student's names and shapes, once; the optimizer's file has one state a parameter."""
    trainer, _, folder = run
    expected = {name: tuple(tensor.shape) for name, tensor in trainer.model.state_dict().items()}
    files = [path for path in weights_below(folder / "run") if path.name != "training_args.bin"]
    assert [path.parent.name for path in files] == ["checkpoint-2", "checkpoint-4", "run"]
    for path in files:
        with safe_open(path, framework="pt") as stored:
            assert {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()} == expected  # noqa: SIM118
    state = torch.load(folder / "run" / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert len(state["state"]) == len(list(trainer.model.parameters()))


def test_the_student_holds_no_part_of_the_teacher(run):
    trainer, _, _ = run
    ours = {p.data_ptr() for p in trainer.model.parameters()}
    assert ours.isdisjoint(p.data_ptr() for p in trainer.teacher.model.parameters())
    assert trainer.teacher.model not in list(trainer.model.modules())


def test_a_teacher_in_training_mode_is_put_into_eval_mode(tmp_path):
    teacher = tiny_model("classification", seed=7, hidden_dropout_prob=0.5).train()
    trainer = distill_trainer(tmp_path, teacher=teacher, max_steps=1)
    trainer.train()
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


def test_the_student_keeps_its_own_mode(tmp_path):
    """Freezing by name or by class instead of by object would freeze the student as well."""
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=7), max_steps=2)
    before = flat_weights(trainer.model)
    trainer.train()
    assert trainer.model.training
    assert all(p.requires_grad for p in trainer.model.parameters())
    assert not torch.equal(before, flat_weights(trainer.model))


def test_a_refused_swap_leaves_the_teacher_as_it_was(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 30))
    tiny_model("classification", hidden_size=8, num_attention_heads=1).save_pretrained(folder / "checkpoint-20")
    trainer = distill_trainer(tmp_path / "run", teacher=str(folder), curriculum={"name": "n_shot"}, max_steps=3)
    with pytest.raises(ValueError, match=r"checkpoint-20.*does not fit the teacher in memory.*one architecture"):
        trainer.train()
    assert torch.equal(flat_weights(trainer.teacher.model), flat_weights(tiny_model("classification", seed=10)))
