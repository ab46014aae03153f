"""Generation on two ranks: metrics see each held-out example once, though the last batch is filled up."""

from __future__ import annotations

import pytest
import torch
from launching import found_by_two_ranks
from writing_two_ranks import written


@pytest.mark.multiprocess
@pytest.mark.slow
def test_each_example_is_counted_once_and_written_the_same(tmp_path_factory, tmp_path):
    alone = written(tmp_path)
    assert len(alone["written"]) == 5
    for found in found_by_two_ranks("writing_two_ranks.py", tmp_path_factory):
        for key in ("written", "labels"):
            assert torch.equal(found[key], alone[key]), key
        assert torch.isfinite(found["loss"])
