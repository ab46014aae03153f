from __future__ import annotations

import errno
import logging
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.teachers.retry import Backoff, DiskFull, HubUnavailable, is_disk_full, retried

AT_ONCE = Backoff(tries=4, first_seconds=0.0)


class Flaky:
    """Fails a number of times before it answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_passing_failures_are_tried_again_and_each_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    work = Flaky(HubUnavailable("it answered 503"), DiskFull(errno.ENOSPC, "no room"))
    with caplog.at_level(logging.WARNING):
        assert retried(work, what="the download of step1", backoff=AT_ONCE) == "answer"
    assert [record.getMessage().split(" failed")[0] for record in caplog.records] == [
        "Try 1 of 4 of the download of step1",
        "Try 2 of 4 of the download of step1",
    ]
    assert "503" in caplog.text and "no room" in caplog.text


def test_last_failure_is_raised_after_so_many_tries() -> None:
    work = Flaky(*(HubUnavailable(f"failure {number}") for number in range(9)))
    with pytest.raises(HubUnavailable, match="failure 3"):
        retried(work, what="it", backoff=AT_ONCE)
    assert work.calls == 4


def test_failure_that_another_try_cannot_mend_is_raised_at_once() -> None:
    work = Flaky(ValueError("the Hub answered 401"))
    with pytest.raises(ValueError, match="401"):
        retried(work, what="it", backoff=AT_ONCE)
    assert work.calls == 1


def test_without_a_limit_it_goes_on_until_it_works() -> None:
    work = Flaky(*(HubUnavailable("down") for _ in range(50)))
    assert retried(work, what="it", backoff=Backoff(tries=None, first_seconds=0.0)) == "answer"
    assert work.calls == 51


def test_a_closed_run_does_not_wait_for_the_next_try() -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(HubUnavailable):
        retried(Flaky(HubUnavailable("down")), what="it", backoff=Backoff(first_seconds=3600), stopped=stopped)


def test_waiting_leaves_the_random_numbers_of_training_alone() -> None:
    state = random.getstate()
    retried(Flaky(HubUnavailable("down")), what="it", backoff=AT_ONCE)
    assert random.getstate() == state


@settings(derandomize=True, deadline=None)
@given(
    failures=st.integers(1, 10_000),
    chance=st.floats(0, 1),
    first=st.floats(0.001, 10),
    longest=st.floats(10, 1000),
    jitter=st.floats(0, 1),
)
def test_no_wait_is_longer_than_allowed_or_shorter_than_the_jitter_leaves(
    failures: int, chance: float, first: float, longest: float, jitter: float
) -> None:
    backoff = Backoff(first_seconds=first, longest_seconds=longest, jitter=jitter)
    seconds = backoff.seconds(failures, chance=chance)
    assert (1 - jitter) * min(first, longest) - 1e-9 <= seconds <= longest


def test_waits_double_and_honour_what_the_hub_asks_for() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=10, jitter=0.5)
    assert [backoff.seconds(n, chance=0) for n in range(1, 6)] == [1, 2, 4, 8, 10]
    assert backoff.seconds(1, chance=1) == 0.5
    assert backoff.seconds(1, chance=0, retry_after=300) == 300
    assert backoff.seconds(5, chance=0, retry_after=3) == 10


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EFBIG, True), (errno.EACCES, False)])
def test_only_a_lack_of_room_counts_as_a_full_disk(code: int, full: bool) -> None:
    assert is_disk_full(OSError(code, "")) is full
