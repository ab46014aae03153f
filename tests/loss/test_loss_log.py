"""Logged parts are means over steps, on the device until they are logged, and times add up."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from hf_distill.loss.loss_log import LossLog, shares


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_parts_are_summed_over_a_window_and_averaged_over_steps(accelerator):
    log = LossLog()
    for step, share in ((0, 0.25), (0, 0.75), (1, 2.0), (1, 1.0)):
        log.add("objective/forward_kl", torch.tensor(share), step=step)
    assert log.flush(accelerator) == {"objective/forward_kl": 2.0}


def test_a_part_of_weight_0_in_some_steps_is_averaged_over_those_too(accelerator):
    log = LossLog()
    for step in range(4):
        log.add("objective/always", torch.tensor(1.0), step=step)
    log.add("objective/once", torch.tensor(3.0), step=2)
    assert log.flush(accelerator) == {"objective/always": 1.0, "objective/once": 3.0}


def test_a_flush_starts_anew(accelerator):
    log = LossLog()
    log.add("a", torch.tensor(4.0), step=0)
    log.flush(accelerator)
    assert log.flush(accelerator) == {}
    log.add("a", torch.tensor(1.0), step=1)
    assert log.flush(accelerator) == {"a": 1.0}


def test_the_order_of_parts_is_that_of_the_loss(accelerator):
    log = LossLog()
    for name in ("z", "a", "m"):
        log.add(name, torch.tensor(1.0), step=0)
    assert list(log.flush(accelerator)) == ["z", "a", "m"]


def test_the_log_keeps_no_graph():
    log = LossLog()
    value = (torch.ones(2, requires_grad=True) * 2).sum()
    log.add("a", value, step=0)
    log.add("a", value, step=0)
    assert not log.parts["a"].requires_grad
    assert log.parts["a"].item() == 2 * value.item() == 8.0


def test_nothing_is_read_from_the_device_before_the_flush():
    log = LossLog()
    with torch.device("meta"):
        log.add("a", torch.zeros(()), step=0)
        log.add("a", torch.zeros(()), step=0)
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


def test_counts_are_logged_as_shares_of_all_examples(accelerator):
    counts = {"teacher/rung_1": torch.tensor(3), "teacher/rung_2": torch.tensor(1)}
    assert shares(counts, accelerator) == {"teacher/rung_1": 0.75, "teacher/rung_2": 0.25}
    assert shares({"teacher/rung_1": torch.tensor(0)}, accelerator) == {"teacher/rung_1": 0.0}
    assert shares({}, accelerator) == {}


def test_speed_is_that_of_the_steps_since_the_last_log(accelerator):
    log = LossLog()
    for seconds, tokens in ((1.0, 100), (3.0, 300)):
        log.step_seconds.append(seconds)
        log.count_tokens(torch.tensor(tokens))
    log.teacher_seconds = 1.0
    first = log.flush(accelerator)
    assert (first["speed/tokens_per_second"], first["speed/teacher_share"]) == (100.0, 0.25)
    assert first["speed/peak_memory_gb"] > 0.01
    log.step_seconds.append(0.5)
    log.count_tokens(torch.tensor(100))
    second = log.flush(accelerator)
    assert (second["speed/tokens_per_second"], second["speed/teacher_share"]) == (200.0, 0.0)
    assert log.tokens == 500


def test_no_speed_is_told_where_no_step_was_taken(accelerator):
    assert LossLog().flush(accelerator) == {}
