"""Memory that is used again: never twice at a time, never allocated twice."""

from __future__ import annotations

import torch

from hf_distill.kernels.scratch import Scratch


def test_pieces_taken_together_do_not_overlap():
    scratch = Scratch(3, 5, like=torch.zeros(1))
    first, second = scratch.take(3, 5).fill_(1.0), scratch.take(2, 4).fill_(2.0)
    assert first.sum() == 15.0 and second.shape == (2, 4) and second.is_contiguous()


def test_a_new_block_gets_the_memory_of_the_last_one():
    scratch = Scratch(3, 5, like=torch.zeros(1))
    before = [scratch.take(3, 5).data_ptr() for _ in range(3)]
    scratch.give_back()
    assert [scratch.take(1, 2).data_ptr() for _ in range(3)] == before


def test_rows_are_copied_only_where_their_type_differs():
    scratch = Scratch(2, 2, like=torch.zeros(1))
    same, other = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bfloat16)
    assert scratch.converted(same) is same
    converted = scratch.converted(other)
    assert converted.dtype == torch.float32 and torch.equal(converted, same)
