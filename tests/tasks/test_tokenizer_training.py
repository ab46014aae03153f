from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_distill.tasks.text_sources import LocalText
from hf_distill.tasks.tokenizer_training import (
    PretrainedTokenizer,
    TrainedTokenizer,
    tokenizer_source,
    train_tokenizer,
)

KINDS = ("wordpiece", "bpe")
TRICKY = "def f(x):\n\treturn  x['é λ 😀'] \r\n # naïve [MASK] <|endoftext|>"


@pytest.fixture(scope="module")
def texts(text_folder: Path) -> list[str]:
    return LocalText(path=str(text_folder)).read().train


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_one_tokenizer(texts: list[str], kind: Any) -> None:
    first, second = (train_tokenizer(texts, kind=kind, vocab_size=320) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert len(first) <= 320


def test_byte_level_bpe_loses_no_text(texts: list[str]) -> None:
    tokenizer = train_tokenizer(texts, kind="bpe", vocab_size=300)
    ids = tokenizer(TRICKY, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == TRICKY
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_wordpiece_keeps_its_ends_and_cases(texts: list[str]) -> None:
    tokenizer = train_tokenizer([*texts, "Value"], kind="wordpiece", vocab_size=400)
    ids = tokenizer("the value")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "the", "value", "[SEP]"]
    assert tokenizer("Value")["input_ids"] != tokenizer("value")["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_has_its_special_tokens(texts: list[str], kind: Any) -> None:
    tokenizer = train_tokenizer(texts, kind=kind, vocab_size=300)
    ends = tokenizer.sep_token_id if kind == "wordpiece" else tokenizer.eos_token_id
    special = {tokenizer.pad_token_id, tokenizer.mask_token_id, ends}
    assert len(special) == 3
    assert None not in special


def test_many_letters_leave_room_for_words() -> None:
    texts = ["the value of a parser " + chr(0x4E00 + n) for n in range(1000)]
    tokenizer = train_tokenizer(texts, kind="wordpiece", vocab_size=400)
    assert len(tokenizer) < 400
    assert tokenizer.tokenize("parser value") == ["parser", "value"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_tokenizer_is_neither_trained_again_nor_changed(texts: list[str], tmp_path: Path, kind: Any) -> None:
    source = TrainedTokenizer(kind=kind, vocab_size=320)
    first = source.load(texts, cache_dir=tmp_path)
    (folder,) = (tmp_path / "tokenizers").iterdir()
    stamp = (folder / "tokenizer.json").stat().st_mtime_ns
    second = source.load(texts, cache_dir=tmp_path)
    assert (folder / "tokenizer.json").stat().st_mtime_ns == stamp
    assert second.get_vocab() == first.get_vocab()
    assert second.special_tokens_map == first.special_tokens_map
    assert second(TRICKY)["input_ids"] == train_tokenizer(texts, kind=kind, vocab_size=320)(TRICKY)["input_ids"]


def test_other_text_or_size_does_not_reuse_a_tokenizer(texts: list[str], tmp_path: Path) -> None:
    for source, read in (
        (TrainedTokenizer(kind="bpe", vocab_size=320), texts),
        (TrainedTokenizer(kind="bpe", vocab_size=321), texts),
        (TrainedTokenizer(kind="wordpiece", vocab_size=320), texts),
        (TrainedTokenizer(kind="bpe", vocab_size=320), texts[1:]),
    ):
        source.load(read, cache_dir=tmp_path)
    assert len(list((tmp_path / "tokenizers").iterdir())) == 4


def test_a_race_of_two_processes_does_not_fail_and_leaves_no_rubbish(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TrainedTokenizer(kind="bpe", vocab_size=320)
    expected = source.load(texts, cache_dir=tmp_path)
    # The other process finishes between our look and our rename: pretend that the folder was not there yet.
    answers = iter([False])
    is_dir = Path.is_dir
    monkeypatch.setattr(
        Path, "is_dir", lambda path: next(answers, None) if _is_target(path, answers) else is_dir(path)
    )
    assert source.load(texts, cache_dir=tmp_path).get_vocab() == expected.get_vocab()
    monkeypatch.undo()
    assert len(list((tmp_path / "tokenizers").iterdir())) == 1


def _is_target(path: Path, answers: Any) -> bool:
    return path.name.startswith("bpe-320-") and answers.__length_hint__() > 0


def test_a_pretrained_tokenizer_is_not_changed(texts: list[str], tmp_path: Path) -> None:
    saved = train_tokenizer(texts, kind="wordpiece", vocab_size=320)
    saved.save_pretrained(tmp_path)
    loaded = tokenizer_source({"pretrained": str(tmp_path)}).load([], cache_dir=tmp_path)
    assert loaded.get_vocab() == saved.get_vocab()


def test_a_tokenizer_without_padding_gets_one(texts: list[str], tmp_path: Path) -> None:
    saved = train_tokenizer(texts, kind="bpe", vocab_size=320)
    saved.pad_token = None
    saved.save_pretrained(tmp_path)
    loaded = PretrainedTokenizer(pretrained=str(tmp_path)).load([], cache_dir=tmp_path)
    assert loaded.pad_token == "<|endoftext|>"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, r"tokenizer: expected \{train"),
        ("bert", r"got 'bert' \(text\)"),
        ({"train": {"vocab_size": 400}}, r"tokenizer\.train\.kind: missing"),
        ({"train": {"kind": "unigram"}}, r"tokenizer\.train\.kind: expected 'wordpiece' or 'bpe'"),
        ({"train": {"kind": "bpe", "vocab_size": 200}}, "at least 300, got 200"),
        ({"train": {"kind": "bpe"}, "pretrained": "x"}, r"tokenizer\.pretrained: unknown key"),
        ({"pretrained": "x", "revison": "v"}, "mean `revision`"),
    ],
)
def test_a_mistake_in_a_recipe_trains_no_tokenizer(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer_source(spec)


def test_a_missing_tokenizer_gives_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)cannot load 'org/none'.*\{train: \{kind"):
        PretrainedTokenizer(pretrained="org/none").load([], cache_dir=tmp_path)


def test_the_two_texts_of_a_pair_do_not_look_alike_to_bert(texts: list[str], tmp_path: Path) -> None:
    spec: dict[str, Any] = {"train": {"kind": "wordpiece", "vocab_size": 320}}
    plain = tokenizer_source(spec).load(texts, cache_dir=tmp_path)
    pairs = tokenizer_source({"train": {**spec["train"], "token_types": True}}).load(texts, cache_dir=tmp_path)
    assert plain.get_vocab() == pairs.get_vocab()
    assert "token_type_ids" not in plain("a", "b")
    assert sum(pairs("a", "b")["token_type_ids"]) >= 2
    with pytest.raises(ValueError, match="token_types: only wordpiece gives them"):
        tokenizer_source({"train": {"kind": "bpe", "token_types": True}})
