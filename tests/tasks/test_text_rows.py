from __future__ import annotations

import numpy as np
import pytest
from tables import sentences
from transformers import PreTrainedTokenizerFast

from hf_distill.tasks import text_rows
from hf_distill.tasks.text_rows import encode_texts, fills
from hf_distill.tasks.tokenizer_training import train_tokenizer

TEXTS = sentences(60, words=(3, 9))


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, kind="wordpiece", vocab_size=320, token_types=True)


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, kind="bpe", vocab_size=320)


def rows_of(encoded: text_rows.EncodedTexts, column: str = "input_ids") -> list[list[int]]:
    ragged = encoded.columns[column]
    return [ragged.values[start:end].tolist() for start, end in zip(ragged.starts, ragged.starts[1:], strict=False)]


def test_a_row_is_what_the_tokenizer_says(wordpiece: PreTrainedTokenizerFast) -> None:
    encoded = encode_texts(wordpiece, TEXTS[:9], TEXTS[9:18], max_length=64)
    expected = wordpiece(TEXTS[:9], TEXTS[9:18])
    assert rows_of(encoded) == expected["input_ids"]
    assert rows_of(encoded, "token_type_ids") == expected["token_type_ids"]
    assert encoded.cut == 0


def test_a_long_pair_is_cut_and_counted(wordpiece: PreTrainedTokenizerFast) -> None:
    first, second = ["value " * 30, "the value", ""], ["error " * 3, "error " * 3, ""]
    encoded = encode_texts(wordpiece, first, second, max_length=10)
    rows = rows_of(encoded)
    assert encoded.cut == 1
    assert [len(row) for row in rows] == [10, 8, 3]
    assert wordpiece.decode(rows[0]) == "[CLS] value value value value [SEP] error error error [SEP]"
    assert rows_of(encoded, "token_type_ids")[0] == [0] * 6 + [1] * 4


def test_the_texts_of_a_pair_do_not_run_together_without_special_tokens(bpe: PreTrainedTokenizerFast) -> None:
    encoded = encode_texts(bpe, ["the value", ""], ["error " * 40, ""], max_length=12)
    rows = rows_of(encoded)
    assert bpe.decode(rows[0][:4]).startswith("the value<|endoftext|>")
    assert (len(rows[0]), rows[0][-1], encoded.cut) == (12, bpe.eos_token_id, 1)
    assert rows[1] == [bpe.eos_token_id] * 2, "an empty text would leave a model nothing to read"


def test_special_tokens_spelt_out_in_a_text_are_not_special(wordpiece: PreTrainedTokenizerFast) -> None:
    row = rows_of(encode_texts(wordpiece, ["the [SEP] value"], max_length=32))[0]
    assert row.count(wordpiece.sep_token_id) == 1


def test_rows_do_not_depend_on_how_many_are_encoded_at_once(
    wordpiece: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode_texts(wordpiece, TEXTS, max_length=8)
    monkeypatch.setattr(text_rows, "ROWS_AT_ONCE", 7)
    parts = encode_texts(wordpiece, TEXTS, max_length=8)
    assert np.array_equal(parts.columns["input_ids"].values, whole.columns["input_ids"].values)
    assert parts.cut == whole.cut > 0


def test_padding_is_not_taken_for_text(wordpiece: PreTrainedTokenizerFast) -> None:
    assert fills(wordpiece, ["input_ids", "token_type_ids", "labels"]) == {
        "input_ids": wordpiece.pad_token_id,
        "token_type_ids": 0,
        "labels": -100,
    }
