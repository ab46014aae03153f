"""Flags of a step: what one rank says holds for all; the answer is given once."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from hf_distill.faults.step_flags import Answer, StepFlags


class Ranks:
    """An accelerator of two ranks, of which the other one says `bad` or `stop`."""

    num_processes = 2

    def __init__(self, *other: float) -> None:
        self.other = torch.tensor(other)

    def reduce(self, flags: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return flags + self.other


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("stop", [False, True])
def test_a_flag_is_answered_once(bad, stop):
    flags = StepFlags(Accelerator(cpu=True))
    assert flags.answer() == Answer(bad=False, stop=False)
    flags.ask(torch.tensor(bad), stop=stop)
    assert flags.answer() == Answer(bad=bad, stop=stop)
    assert flags.answer() == Answer(bad=False, stop=False)


@pytest.mark.parametrize(
    ("other", "expected"), [((0, 0), (True, False)), ((0, 1), (True, True)), ((1, 1), (True, True))]
)
def test_what_another_rank_says_counts_too(other, expected):
    flags = StepFlags(Ranks(*other))
    flags.ask(torch.tensor(True), stop=False)
    assert flags.answer() == expected
