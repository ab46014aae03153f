from __future__ import annotations

import numpy as np
import pytest
from builders import word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from hf_distill.tasks.text_blocks import (
    Blocks,
    cut_stream,
    end_of_document_id,
    padding_id,
    split_by_hash,
    surround,
    token_stream,
)
from hf_distill.tasks.tokenizer_training import train_tokenizer

TEXTS = ["the value of a name", "not found [SEP] é", "a parser <|endoftext|> reads"]
PAD = -7
LENGTHS = st.integers(2, 9)


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, kind=request.param, vocab_size=300)


def test_equal_documents_do_not_lie_on_both_sides() -> None:
    documents = [f"document {n % 200}" for n in range(1000)]
    train, held_out = split_by_hash(documents, 0.2)
    assert len(train) + len(held_out) == 1000
    assert not set(train) & set(held_out)
    assert 0.1 < len(held_out) / 1000 < 0.3


def test_a_new_document_does_not_move_the_others() -> None:
    documents = [f"document {n}" for n in range(100)]
    train, held_out = split_by_hash(documents, 0.2)
    assert split_by_hash(["new", *documents[::-1]], 0.2)[1][-len(held_out) :] == held_out[::-1]
    assert set(split_by_hash(documents, 0.5)[0]) <= set(train)


def test_documents_do_not_run_into_each_other_and_show_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    end = end_of_document_id(tokenizer)
    stream = token_stream(tokenizer, TEXTS)
    assert stream.dtype == np.int32
    assert np.flatnonzero(stream == end).tolist()[-1] == len(stream) - 1
    pieces = np.split(stream, np.flatnonzero(stream == end) + 1)[:-1]
    assert len(pieces) == len(TEXTS)
    for piece, text in zip(pieces, TEXTS, strict=True):
        expected = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert piece[:-1].tolist() == expected


def test_padding_and_ends_are_found() -> None:
    bpe = train_tokenizer(TEXTS, kind="bpe", vocab_size=300)
    wordpiece = train_tokenizer(TEXTS, kind="wordpiece", vocab_size=300)
    assert end_of_document_id(bpe) == bpe.eos_token_id
    assert end_of_document_id(wordpiece) == wordpiece.sep_token_id
    assert padding_id(bpe) == bpe.pad_token_id
    bpe.pad_token = None
    assert padding_id(bpe) == bpe.eos_token_id
    bpe.eos_token = None
    with pytest.raises(ValueError, match="neither an EOS nor a separator"):
        end_of_document_id(bpe)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 60), LENGTHS, st.integers(0, 1), st.booleans())
def test_no_token_is_lost_or_repeated(size: int, length: int, overlap: int, keep_tail: bool) -> None:
    stream = np.arange(size, dtype=np.int32)
    blocks = cut_stream(stream, length, overlap=overlap, keep_tail=keep_tail, pad_id=PAD)
    assert blocks.ids.shape == (len(blocks.lengths), length)
    # Without the tokens repeated from the block before, the blocks are the stream.
    pieces = [row[:used][overlap if number else 0 :] for number, (row, used) in enumerate(zip(*blocks, strict=True))]
    joined = np.concatenate([*pieces, np.zeros(0, dtype=np.int32)])
    assert joined.tolist() == stream[: len(joined)].tolist()
    left = size - len(joined)
    assert left <= (overlap if keep_tail and len(blocks.ids) == 0 else 0 if keep_tail else length - 1)
    padding = np.arange(length) >= blocks.lengths[:, None]
    assert (blocks.ids[padding] == PAD).all()
    assert not (blocks.ids[~padding] == PAD).any()


def test_the_ends_of_a_block_do_not_overwrite_its_text() -> None:
    blocks = Blocks(np.array([[1, 2, 3], [4, PAD, PAD]], dtype=np.int32), np.array([3, 1], dtype=np.int32))
    both = surround(blocks, first=8, last=9, pad_id=PAD)
    assert both.ids.tolist() == [[8, 1, 2, 3, 9], [8, 4, 9, PAD, PAD]]
    assert both.lengths.tolist() == [5, 3]
    assert surround(blocks, first=None, last=None, pad_id=PAD).ids.tolist() == blocks.ids.tolist()
    assert surround(blocks, first=8, last=None, pad_id=PAD).ids.tolist() == [[8, 1, 2, 3], [8, 4, PAD, PAD]]
    assert surround(blocks, first=None, last=9, pad_id=PAD).lengths.tolist() == [4, 2]


def test_documents_are_encoded_alike_however_many_at_once(monkeypatch):
    tokenizer = word_tokenizer("a", "b", "c")
    tokenizer.eos_token = "c"
    texts = ["a b", "b", "a a a", "b a"]
    whole = token_stream(tokenizer, texts)
    monkeypatch.setattr("hf_distill.tasks.text_blocks.DOCUMENTS_AT_ONCE", 3)
    assert token_stream(tokenizer, texts).tolist() == whole.tolist()
    assert token_stream(tokenizer, []).tolist() == []
