from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from tables import sentences
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_distill.tasks.tokenizer_training import train_tokenizer
from hf_distill.tasks.word_tokens import check_fast, word_tokens, words_found

TEXTS = sentences(60, words=(3, 9))
SENTENCES = [["parser", "returns", ",", "naïve"], ["the"], ["don't", "é", "mapping"]]


def firsts(words: object) -> list[list[int]]:
    return [words.values[a:b].tolist() for a, b in pairwise(words.starts)]  # type: ignore[attr-defined]


def metaspace() -> PreTrainedTokenizerFast:
    """A tokenizer that writes a space as a part of the token behind it, as XLM-R's does, and some alone."""
    pieces = ["▁the", "▁map", "ping", "▁", "don", "'", "t", "é", "▁pars", "er"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", -9.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_wordpieces_are_those_of_words_split_before(shared_data: Path) -> None:
    """The usual way, with words handed over one by one, must find the same tokens and the same first ones."""
    lines = (shared_data / "wnut_17" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:400]
    tweets = [json.loads(line)["tokens"] for line in lines]
    tokenizer = train_tokenizer([" ".join(words) for words in tweets], kind="wordpiece", vocab_size=800)
    found = word_tokens(tokenizer, tweets, max_length=40)
    usual = tokenizer(tweets, is_split_into_words=True, truncation=True, max_length=40)
    rows = found.columns["input_ids"]
    assert [rows.values[a:b].tolist() for a, b in pairwise(rows.starts)] == usual["input_ids"]
    expected = []
    for row in range(len(tweets)):
        ids = [-1 if word is None else word for word in usual.word_ids(row)]
        expected.append([word if word != before else -1 for word, before in zip(ids, [-1, *ids], strict=False)])
    assert firsts(found.words) == expected


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "metaspace"])
def test_a_word_has_exactly_one_first_token(kind: str) -> None:
    tokenizer: PreTrainedTokenizerBase = (
        metaspace() if kind == "metaspace" else train_tokenizer(TEXTS, kind=kind, vocab_size=320)  # type: ignore[arg-type]
    )
    found = word_tokens(tokenizer, SENTENCES, max_length=64)
    for row, sentence in zip(firsts(found.words), SENTENCES, strict=True):
        assert [word for word in row if word >= 0] == list(range(len(sentence)))
    assert words_found(found.words).tolist() == [4, 1, 3]


def test_a_token_with_the_space_before_it_is_not_the_word_before() -> None:
    tokenizer = metaspace()
    found = word_tokens(tokenizer, [["the", "mapping", "é"]], max_length=64)
    ids = found.columns["input_ids"].values.tolist()
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁the", "▁map", "ping", "▁", "é"]
    assert firsts(found.words) == [[0, 1, -1, -1, 2]], "the lone space is no word"


def test_words_that_are_cut_off_are_not_found() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="wordpiece", vocab_size=320)
    found = word_tokens(tokenizer, [["the"] * 30, ["the", "", "value"]], max_length=10)
    assert words_found(found.words).tolist() == [8, 2]
    assert found.columns["input_ids"].lengths.tolist()[0] == 10


def test_a_tokenizer_that_does_not_say_where_its_tokens_stand_is_refused() -> None:
    class Slow(PreTrainedTokenizerBase):
        """Stands for a tokenizer without tokenizer.json."""

        is_fast = False

    with pytest.raises(ValueError, match=r"Slow does not say where .*tokenizer\.json"):
        check_fast(Slow())
