"""Only context changes, in one span, to what another text has there."""

from __future__ import annotations

import pytest
import torch
from builders import HEADS
from hypothesis import given, settings
from hypothesis import strategies as st
from view_cases import IDS, context_of, text_batch, view_of

from hf_distill.views import ViewContext
from hf_distill.views.mixing import draw_partners, draw_share


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), head=st.sampled_from(HEADS), left=st.booleans())
def test_only_context_changes(seed, head, left):
    batch = text_batch(head, seed=seed)
    if left:
        batch = {key: value.flip(-1) if value.dim() == 2 else value for key, value in batch.items()}
    torch.manual_seed(seed)
    share, _, partners = draw_share(1.0), torch.rand(()), draw_partners(6)
    torch.manual_seed(seed)
    ids, before = view_of("token_cutmix").augment(batch, context_of(head))["input_ids"], batch["input_ids"]
    changed, attended = ids != before, batch["attention_mask"].bool()
    assert torch.equal(ids[changed], before[partners][changed]), "at the same positions of the partner"
    assert not (changed & ~attended).any(), "padding stays"
    assert not changed[before <= 2].any(), "special tokens stay"
    assert (ids[changed] > 2).all() and attended[partners][changed].all(), "and are not brought in"
    if head in ("masked_lm", "causal_lm"):
        assert not changed[batch["labels"] != -100].any(), "labelled positions stay"
    for row in range(6):
        places = changed[row].nonzero().flatten()
        if len(places):
            span = attended[row, places[0] : places[-1] + 1].sum()
            assert span <= round((1 - share) * int(attended[row].sum())), "one span"


@pytest.mark.parametrize("head", HEADS)
def test_padding_on_the_other_side_gives_the_same_span(head):
    full = text_batch(head)
    full = {**full, "attention_mask": torch.ones_like(full["attention_mask"])}
    padded = {
        key: torch.nn.functional.pad(value, (3, 0)) if value.dim() == 2 else value for key, value in full.items()
    }
    if head in ("masked_lm", "causal_lm"):
        padded["labels"] = torch.nn.functional.pad(full["labels"], (3, 0), value=-100)
    found = []
    for batch in (full, padded):
        torch.manual_seed(4)
        found.append(view_of("token_cutmix").augment(batch, context_of(head))["input_ids"])
    assert torch.equal(found[0], found[1][:, 3:])


def test_spans_have_the_length_of_the_share():
    """Texts without special tokens, all ids of one text equal: what is foreign is the span."""
    ids = torch.arange(5, 9)[:, None].repeat(1, 100)
    for seed in range(20):
        torch.manual_seed(seed)
        share = draw_share(1.0)
        torch.manual_seed(seed)
        mixed = view_of("token_cutmix").augment({"input_ids": ids}, ViewContext("classification", IDS))["input_ids"]
        foreign = (mixed != ids).sum(1)
        assert foreign.tolist() == [round(100 * (1 - share))] * 4
