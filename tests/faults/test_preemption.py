"""SIGTERM ends training at the end of a step, with a checkpoint and the exit code that schedulers know."""

from __future__ import annotations

import signal
import threading

import pytest
import torch
from faulty_run import teacher_of, train_until_signal
from killed_run import FIXED, make_trainer
from launching import run_alone

from hf_distill.faults.preemption import EXIT_CODE, Preempted, Preemption
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 9, 15])
def test_a_preempted_run_goes_on_bitwise(tmp_path, step):
    teacher = teacher_of(tmp_path)
    code, errors = run_alone(train_until_signal, tmp_path / "cut", teacher, step)
    assert code == EXIT_CODE == 143, errors
    assert f"SIGTERM: saving a checkpoint of step {step + 1} and stopping" in errors
    assert find_last_whole_checkpoint(tmp_path / "cut").name == f"checkpoint-{step + 1}"
    whole, resumed = (make_trainer(tmp_path / name, teacher, FIXED, None) for name in ("whole", "cut"))
    whole.train()
    resumed.train(resume_from_checkpoint=True)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_outside_of_training_the_signal_does_what_it_did():
    before = signal.getsignal(signal.SIGTERM)
    with Preemption(enabled=True):
        assert signal.getsignal(signal.SIGTERM) != before or threading.current_thread() is not threading.main_thread()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_other_threads_and_runs_without_checkpoints_leave_the_signal_alone(enabled):
    seen = []

    def enter() -> None:
        with Preemption(enabled=enabled):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not enabled:
        enter()
    assert set(seen) == {before}


def test_a_process_that_does_not_catch_it_ends_with_the_schedulers_code():
    with pytest.raises(SystemExit, match="checkpoint of step 5") as caught:
        raise Preempted("checkpoint of step 5")
    assert caught.value.code == 143
