"""Both sides end with the end token, cut or not, in this session and when the tokenizer is loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_distill.tasks.target_rows import encode_sources, encode_targets, ending_texts
from hf_distill.tasks.tokenizer_training import train_tokenizer

TEXTS = ["the cat sat on the mat", "a", "the dog"]


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    return ending_texts(train_tokenizer(TEXTS * 3, kind="bpe", vocab_size=300))


def rows_of(encoded) -> list[list[int]]:
    return [encoded.ids.values[a:b].tolist() for a, b in zip(encoded.ids.starts, encoded.ids.starts[1:], strict=False)]


@pytest.mark.parametrize("encode", [encode_sources, encode_targets])
def test_a_cut_text_keeps_its_end_and_is_counted(encode):
    tokenizer = bytes_tokenizer()
    whole, short = (encode(tokenizer, TEXTS, max_length=length) for length in (64, 4))
    assert (whole.cut, short.cut) == (0, sum(len(row) > 4 for row in rows_of(whole))) and short.cut > 0
    for long_row, row in zip(rows_of(whole), rows_of(short), strict=True):
        assert row[-1] == long_row[-1] == tokenizer.eos_token_id
        assert row[:-1] == long_row[: len(row) - 1] and len(row) == min(len(long_row), 4)
        assert row.count(tokenizer.eos_token_id) == 1


def test_an_end_token_spelt_out_ends_no_text():
    tokenizer = bytes_tokenizer()
    (row,) = rows_of(encode_sources(tokenizer, ["a <|endoftext|> b"], max_length=64))
    assert row.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(row[:-1]) == "a <|endoftext|> b"


def test_a_saved_tokenizer_keeps_the_end(tmp_path: Path):
    tokenizer = bytes_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert again("the cat", "a")["input_ids"] == tokenizer("the cat", "a")["input_ids"]
    assert ending_texts(again)("a")["input_ids"].count(tokenizer.eos_token_id) == 1


def test_two_languages_have_their_own_ways_of_encoding():
    """As Marian's tokenizer has one for each side, by its `text_target`."""

    class TwoSided(PreTrainedTokenizerFast):
        def __call__(self, text=None, *args, text_target=None, **kwargs):
            return super().__call__(text if text_target is None else [one[::-1] for one in text_target], **kwargs)

    known = {token: number for number, token in enumerate(("[UNK]", "<pad>", "</s>", "ab", "ba"))}
    backend = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer = TwoSided(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="[UNK]")
    assert rows_of(encode_sources(tokenizer, ["ab"], max_length=8)) == [[3, 2]]
    assert rows_of(encode_targets(tokenizer, ["ab"], max_length=8)) == [[4, 2]]


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(ValueError, match=r"has no end token; a decoder needs both\. Use \{train: \{kind: bpe"):
        ending_texts(train_tokenizer(TEXTS, kind="wordpiece", vocab_size=300))
    tokenizer = train_tokenizer(TEXTS, kind="bpe", vocab_size=300)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no padding token"):
        ending_texts(tokenizer)


def test_a_tokenizer_with_another_template_is_refused():
    tokenizer = train_tokenizer(TEXTS, kind="bpe", vocab_size=300)
    special = [("<|mask|>", tokenizer.mask_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|mask|> $A", special_tokens=special
    )
    with pytest.raises(ValueError, match=r"does not put its end token '<\|endoftext\|>' behind a text; use that of a"):
        ending_texts(tokenizer)
