"""DeepSpeed in fp16 leaves out steps that overflow; what is beside the student is left out of them too."""

from __future__ import annotations

import pytest
import torch
from launching import found_by_two_ranks

RTOL = 1e-3
"""fp16 has three digits."""

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow, pytest.mark.deepspeed]


def test_steps_that_overflow_are_left_out_of_student_and_projectors_and_are_no_bad_batches(tmp_path_factory):
    for found in found_by_two_ranks("overflowed_two_ranks.py", tmp_path_factory):
        skipped = int(found["overflowed/skipped"])
        assert 0 < skipped < len(found["overflowed/losses"]) - 1
        assert found["calm/skipped"] == 0
        torch.testing.assert_close(found["overflowed/losses"][skipped:], found["calm/losses"], rtol=RTOL, atol=0)
        for what in ("update", "beside"):
            one, other = found[f"overflowed/{what}"], found[f"calm/{what}"]
            assert (one - other).norm() < RTOL * other.norm(), what
