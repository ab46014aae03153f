"""Only context is replaced, at its rate, by ordinary tokens."""

from __future__ import annotations

import pytest
import torch
from builders import HEADS, VOCABULARY
from view_cases import IDS, context_of, text_batch, view_of

from hf_distill.views import ViewContext
from hf_distill.views.token_ids import free_positions


@pytest.mark.parametrize("head", HEADS)
def test_only_context_is_replaced(head):
    batch = text_batch(head)
    free = free_positions(batch, batch["input_ids"], head=head, known=IDS)
    touched = torch.zeros_like(free)
    for seed in range(40):
        torch.manual_seed(seed)
        ids = view_of("token_replacement", rate=0.5).augment(batch, context_of(head))["input_ids"]
        changed = ids != batch["input_ids"]
        touched |= changed
        assert (ids[changed] > 2).all() and (ids < VOCABULARY).all()
    assert torch.equal(touched, free), "every position of context is replaced now and then, and no other one"


@pytest.mark.parametrize("rate", [0.15, 0.6, 1.0])
def test_the_share_asked_for_is_replaced(rate):
    ids = torch.full((50, 400), 7)
    torch.manual_seed(0)
    batch = {"input_ids": ids}
    replaced = view_of("token_replacement", rate=rate).augment(batch, ViewContext("classification", IDS))["input_ids"]
    # One of 37 ordinary ids is the token itself.
    assert (replaced != ids).double().mean().item() == pytest.approx(rate * 36 / 37, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="token_replacement: `rate` must be a share above 0 and at most 1, got"):
        view_of("token_replacement", rate=rate)
