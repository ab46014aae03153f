"""The high-water mark of memory."""

from __future__ import annotations

import torch

from hf_distill.training.peak_memory import peak_memory


def test_memory_is_measured_in_bytes_and_never_falls():
    before = peak_memory(torch.device("cpu"))
    assert before > 10 * 2**20
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    during = peak_memory(torch.device("cpu"))
    del block
    assert peak_memory(torch.device("cpu")) >= during >= before
