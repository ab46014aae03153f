from __future__ import annotations

import math

import pytest

from hf_distill.metrics import load_metric


def test_bits_are_counted_per_byte_and_not_in_nats() -> None:
    # 4 tokens of 16 equally likely ones are 16 bits, here for 8 bytes.
    result = load_metric("bits_per_byte").compute(predictions=[math.log(16.0)] * 4, text_bytes=8)
    assert result == {"bits_per_byte": pytest.approx(2.0, rel=1e-12)}
