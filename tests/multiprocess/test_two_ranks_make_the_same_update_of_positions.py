"""Invariant 1 over ranks where each micro-batch is padded to its own length: tags, answers, T5, Marian and BART."""

from __future__ import annotations

import pytest
import torch
from heads_two_ranks import HEADS, step_of
from launching import Found, found_by_two_ranks
from updates import assert_same_update

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What two ranks found, all models in one launch."""
    return found_by_two_ranks("heads_two_ranks.py", tmp_path_factory)


@pytest.mark.parametrize("name", HEADS)
def test_two_ranks_make_the_update_of_one(ranks, tmp_path, name):
    single = step_of(name, tmp_path, micro_batch=8, accumulation=1)
    first, second = ({key: found[f"{name}/{key}"] for key in single} for found in ranks)
    assert torch.equal(first["update"], second["update"])
    assert_same_update(single["update"], first["update"])
    assert first["loss"].item() == pytest.approx(single["loss"].item(), rel=1e-5)
