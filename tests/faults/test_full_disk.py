"""Saving that cannot end: on a full disk, or killed while a file is written, the checkpoint before is still there."""

from __future__ import annotations

import errno

import pytest
import torch
from faulty_run import teacher_of, train_on_small_disk, train_until_file
from killed_run import FIXED, make_trainer
from launching import run_alone, run_until_killed
from safetensors import SafetensorError

from hf_distill.faults.full_disk import is_full, unfinished_goes
from hf_distill.teachers.checkpoint_files import checkpoints_in, find_last_whole_checkpoint


def assert_goes_on(folder, teacher):
    """Check that a run which was cut short, resumed, ends with bitwise the weights of one that was not."""
    whole, resumed = (make_trainer(folder / name, teacher, FIXED, None) for name in ("whole", "cut"))
    whole.train()
    resumed.train(resume_from_checkpoint=True)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("size", [20_000, 60_000])
def test_a_full_disk_leaves_the_checkpoint_before_and_says_so(tmp_path, size):
    """The weights take 28 KB, the optimizer 82 KB."""
    teacher = teacher_of(tmp_path)
    code, errors = run_alone(train_on_small_disk, tmp_path / "cut", teacher, 9, size)
    assert code == 1
    assert "the disk is full: checkpoint-9 could not be written and was removed" in errors
    assert "checkpoint-6 is whole; make room and start the same command again" in errors
    assert [folder.name for folder in checkpoints_in(tmp_path / "cut")] == ["checkpoint-3", "checkpoint-6"]
    assert_goes_on(tmp_path, teacher)


@pytest.mark.slow
@pytest.mark.parametrize("file", [1, 2, 3])
def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoint_before(tmp_path, file):
    teacher = teacher_of(tmp_path)
    run_until_killed(train_until_file, tmp_path / "cut", teacher, 9, file)
    assert (tmp_path / "cut" / "checkpoint-9").is_dir()
    assert find_last_whole_checkpoint(tmp_path / "cut").name == "checkpoint-6"
    assert_goes_on(tmp_path, teacher)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed: file write failed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_library_s_words_for_a_full_disk_are_known(error, tmp_path):
    assert is_full(error)
    (tmp_path / "checkpoint-5").mkdir()
    with (
        pytest.raises(OSError, match="before: there is none yet") as caught,
        unfinished_goes(tmp_path / "checkpoint-5", writes=True),
    ):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "checkpoint-5").exists()


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), RuntimeError("shapes differ")])
def test_another_failure_removes_nothing(error, tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    with (
        pytest.raises(type(error), match=str(error.args[-1])),
        unfinished_goes(tmp_path / "checkpoint-5", writes=True),
    ):
        raise error
    assert (tmp_path / "checkpoint-5").exists()


def test_a_rank_that_does_not_write_removes_nothing(tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(OSError, match="the disk is full"), unfinished_goes(tmp_path / "checkpoint-5", writes=False):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "checkpoint-5").exists()
