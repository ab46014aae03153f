"""Ids that may be written and positions that may change, from tokenizers, configurations and batches."""

from __future__ import annotations

import pytest
import torch
from builders import bert_config, word_tokenizer
from view_cases import IDS, text_batch

from hf_distill.views import TokenIds, token_ids
from hf_distill.views.token_ids import attended_positions, free_positions, no_free_position


@pytest.mark.parametrize("special", [(), (0,), (9,), (0, 1, 5), (3, 4, 9), (5, 5, -1, 40)])
def test_ordinary_ids_are_drawn_and_special_ones_never(special):
    torch.manual_seed(0)
    drawn = TokenIds(10, special).draw((2000,))
    counts = torch.bincount(drawn, minlength=10)
    ordinary = [token for token in range(10) if token not in special]
    assert counts[[token for token in special if 0 <= token < 10]].sum() == 0
    assert counts[ordinary].min() > 0.7 * 2000 / len(ordinary)
    assert len(counts) == 10


def test_no_ids_are_drawn_where_there_are_none():
    with pytest.raises(ValueError, match="no token id can be drawn: 2 ids are known to both models, all of them spec"):
        TokenIds(2, (0, 1)).draw((3,))


def test_the_tokenizer_says_what_is_special():
    tokenizer = word_tokenizer("a", "b", "c")
    assert token_ids(tokenizer, bert_config(), bert_config(vocab_size=99)) == TokenIds(4, (0,))


def test_rows_of_a_padded_embedding_are_not_taken_for_tokens():
    assert token_ids(word_tokenizer(*"abcdefgh"), bert_config(vocab_size=6)).size == 6


def test_without_a_tokenizer_the_configurations_say_what_is_special():
    config = bert_config(pad_token_id=0, eos_token_id=[3, 2], mask_token_id=4)
    found = token_ids(None, config, bert_config(vocab_size=30, pad_token_id=0))
    assert found.size == 30
    assert {0, 2, 3} <= set(found.special)


def test_padding_is_not_taken_for_text():
    batch = text_batch("classification")
    assert torch.equal(attended_positions(batch, batch["input_ids"]), batch["attention_mask"].bool())
    assert attended_positions({}, batch["input_ids"]).all()
    with pytest.raises(ValueError, match=r"attention mask has shape \(6, 1, 12\).*one mark a token"):
        attended_positions({"attention_mask": batch["attention_mask"][:, None]}, batch["input_ids"])


@pytest.mark.parametrize("head", ["classification", "regression", "masked_lm", "causal_lm"])
def test_what_must_stay_is_not_free(head):
    batch = text_batch(head)
    free = free_positions(batch, batch["input_ids"], head=head, known=IDS)
    expected = batch["attention_mask"].bool() & (batch["input_ids"] > 2)
    if head in ("masked_lm", "causal_lm"):
        expected &= batch["labels"] == -100
    assert torch.equal(free, expected)
    assert free.any()


def test_a_text_without_context_is_a_problem():
    batch = text_batch("causal_lm")
    assert no_free_position(batch, batch["input_ids"], head="causal_lm", known=IDS) is None
    whole = {**batch, "labels": batch["input_ids"]}
    assert "label completions only" in no_free_position(whole, batch["input_ids"], head="causal_lm", known=IDS)
    del whole["labels"]
    assert no_free_position(whole, batch["input_ids"], head="causal_lm", known=IDS) is None
