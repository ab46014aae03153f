"""Logged parts are means over steps, on the device until they are logged, and times add up."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from hf_distill.loss_log import LossLog


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_parts_are_summed_over_a_window_and_averaged_over_steps(accelerator):
    log = LossLog()
    for share in (0.25, 0.75, 2.0, 1.0):
        log.add("objective/forward_kl", torch.tensor(share))
    assert log.flush(accelerator, steps=2) == {"objective/forward_kl": 2.0}


def test_a_flush_starts_anew(accelerator):
    log = LossLog()
    log.add("a", torch.tensor(4.0))
    log.flush(accelerator, steps=1)
    assert log.flush(accelerator, steps=1) == {}
    log.add("a", torch.tensor(1.0))
    assert log.flush(accelerator, steps=1) == {"a": 1.0}


def test_the_order_of_parts_is_that_of_the_loss(accelerator):
    log = LossLog()
    for name in ("z", "a", "m"):
        log.add(name, torch.tensor(1.0))
    assert list(log.flush(accelerator, steps=1)) == ["z", "a", "m"]


def test_a_log_before_the_first_step_does_not_divide_by_zero(accelerator):
    log = LossLog()
    log.add("a", torch.tensor(3.0))
    assert log.flush(accelerator, steps=0) == {"a": 3.0}


def test_the_log_keeps_no_graph():
    log = LossLog()
    value = (torch.ones(2, requires_grad=True) * 2).sum()
    log.add("a", value)
    log.add("a", value)
    assert not log.parts["a"].requires_grad
    assert log.parts["a"].item() == 2 * value.item() == 8.0


def test_nothing_is_read_from_the_device_before_the_flush():
    log = LossLog()
    with torch.device("meta"):
        log.add("a", torch.zeros(()))
        log.add("a", torch.zeros(()))
    assert log.parts["a"].device.type == "meta"


def test_each_step_has_its_own_time():
    log = LossLog()
    for _ in range(3):
        log.step_begins()
        log.step_ends()
    assert len(log.step_seconds) == 3
    assert all(0.0 <= seconds < 1.0 for seconds in log.step_seconds)


def test_teacher_time_adds_up_on_a_cpu():
    log = LossLog()
    with log.teacher_timer(torch.device("cpu")):
        torch.ones(10).sum()
    once = log.teacher_seconds
    with log.teacher_timer(torch.device("cpu")):
        torch.ones(10).sum()
    assert 0.0 < once < log.teacher_seconds


def test_two_logs_share_no_lists():
    one, other = LossLog(), LossLog()
    one.stalls.append(1.0)
    one.step_seconds.append(1.0)
    assert other.stalls == other.step_seconds == []
