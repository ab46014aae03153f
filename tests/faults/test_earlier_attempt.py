"""What an earlier attempt has left of a checkpoint is no part of the next one."""

from __future__ import annotations

from accelerate import Accelerator
from builders import distill_trainer

from hf_distill.faults.earlier_attempt import remove_earlier
from hf_distill.teachers.checkpoint_files import trainer_checkpoint_problem


def left(folder):
    folder.mkdir()
    for name in ("trainer_state.json", "global_step5", "model.safetensors"):
        (folder / name).write_text("old")
    return folder


def test_nothing_of_it_stays(tmp_path):
    folder = left(tmp_path / "checkpoint-5")
    remove_earlier(folder, Accelerator(cpu=True), writes=True)
    assert not folder.exists()
    remove_earlier(folder, Accelerator(cpu=True), writes=True)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_writes_no_student_removes_nothing(tmp_path):
    folder = left(tmp_path / "checkpoint-5")
    remove_earlier(folder, Accelerator(cpu=True), writes=False)
    assert len(list(folder.iterdir())) == 3


def test_a_checkpoint_that_is_saved_again_is_the_new_one_alone(tmp_path):
    checkpoint = left(tmp_path / "checkpoint-2")
    distill_trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=2).train()
    assert trainer_checkpoint_problem(checkpoint) is None
    assert not (checkpoint / "global_step5").exists()
