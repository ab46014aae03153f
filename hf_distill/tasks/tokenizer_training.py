"""Tokenizers for text tasks: trained on the training split and kept beside the run, or pretrained."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_distill.strict_dataclass import check_known_keys, from_mapping
from hf_distill.wording import given

SMALLEST_VOCABULARY = 300
"""The 256 bytes of a byte-level vocabulary, its special tokens and a few merges."""

_WORDPIECE_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_BPE_SPECIALS = {"pad_token": "<|pad|>", "eos_token": "<|endoftext|>", "mask_token": "<|mask|>"}


class TokenizerSource(ABC):
    """Something that a tokenizer comes from."""

    @abstractmethod
    def load(self, texts: Sequence[str], *, cache_dir: Path) -> PreTrainedTokenizerBase:
        """Return the tokenizer.

        Args:
            texts: The training split; nothing of the held-out text may shape the vocabulary.
            cache_dir: Where a trained tokenizer is kept.

        Raises:
            ValueError: It cannot be loaded.
        """


@dataclass(frozen=True, kw_only=True)
class TrainedTokenizer(TokenizerSource):
    """A vocabulary learnt from the training split."""

    kind: Literal["wordpiece", "bpe"] = field(
        metadata={"help": "`wordpiece` as BERT has, cased; `bpe` on bytes as GPT-2 has, which loses nothing"}
    )
    vocab_size: int = field(default=4096, metadata={"help": "entries, special tokens included"})
    token_types: bool = field(
        default=False,
        metadata={
            "help": "tell a model which text of a pair a token is of (BERT reads it; DistilBERT, RoBERTa do not)"
        },
    )

    def __post_init__(self) -> None:
        if self.token_types and self.kind != "wordpiece":
            raise ValueError("token_types: only wordpiece gives them; leave it out, or set kind: wordpiece")
        if self.vocab_size < SMALLEST_VOCABULARY:
            raise ValueError(f"vocab_size: expected at least {SMALLEST_VOCABULARY}, got {self.vocab_size}")

    def load(self, texts: Sequence[str], *, cache_dir: Path) -> PreTrainedTokenizerBase:
        """Train it, or read the one that was trained before on the same texts."""
        kind = f"{self.kind}-pairs" if self.token_types else self.kind
        folder = Path(cache_dir) / "tokenizers" / f"{kind}-{self.vocab_size}-{self._fingerprint(texts)}"
        if not folder.is_dir():
            tokenizer = train_tokenizer(
                texts, kind=self.kind, vocab_size=self.vocab_size, token_types=self.token_types
            )
            _save_atomically(tokenizer, folder)
        return PreTrainedTokenizerFast.from_pretrained(folder)

    def _fingerprint(self, texts: Sequence[str]) -> str:
        digest = hashlib.sha256(tokenizers.__version__.encode())
        for text in texts:
            digest.update(hashlib.sha256(text.encode()).digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class PretrainedTokenizer(TokenizerSource):
    """A tokenizer of the Hub, of the cache or of a folder."""

    pretrained: str = field(metadata={"help": "id on the Hub, or a folder"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit"})

    def load(self, texts: Sequence[str], *, cache_dir: Path) -> PreTrainedTokenizerBase:
        """Load it, whatever the texts; its end token stands for a missing pad token."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.pretrained, revision=self.revision or "main")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"tokenizer.pretrained: cannot load {self.pretrained!r}: {error} Give the id of a Hub repository or a "
                "folder with tokenizer.json, or train one: {train: {kind: wordpiece, vocab_size: 4096}}."
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
        return tokenizer


def tokenizer_source(spec: Mapping[str, Any]) -> TokenizerSource:
    """Return the source that a recipe's `tokenizer:` names.

    Args:
        spec: `{"train": {"kind": ..., "vocab_size": ...}}` or `{"pretrained": ..., "revision": ...}`.

    Raises:
        ValueError: None of them, or an unknown key or wrong type.
    """
    if isinstance(spec, Mapping) and "train" in spec:
        check_known_keys(spec, ["train"], path="tokenizer")
        return from_mapping(TrainedTokenizer, spec["train"], path="tokenizer.train")
    if isinstance(spec, Mapping) and "pretrained" in spec:
        return from_mapping(PretrainedTokenizer, spec, path="tokenizer")
    raise ValueError(
        "tokenizer: expected {train: {kind: wordpiece or bpe, vocab_size: 4096}} or {pretrained: ORG/NAME}, got "
        f"{given(spec)}."
    )


def train_tokenizer(
    texts: Sequence[str], *, kind: Literal["wordpiece", "bpe"], vocab_size: int, token_types: bool = False
) -> PreTrainedTokenizerFast:
    """Return a tokenizer learnt from `texts`: the same texts in the same order give the same tokenizer.

    Args:
        texts: Documents.
        kind: "wordpiece": cased words and their pieces, with [CLS] and [SEP] around a text; "bpe": merges of bytes,
            which reproduce any text, with <|endoftext|>.
        vocab_size: Entries at most; a short text gives fewer.
        token_types: Whether "wordpiece" also says which text of a pair a token is of.
    """
    if kind == "wordpiece":
        inputs = ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
        return PreTrainedTokenizerFast(
            tokenizer_object=_wordpiece(texts, vocab_size), model_input_names=inputs, **_WORDPIECE_SPECIALS
        )
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level_bpe(texts, vocab_size), **_BPE_SPECIALS)


def _byte_level_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(_BPE_SPECIALS.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def _wordpiece(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    specials = list(_WORDPIECE_SPECIALS.values())
    learner = _cased_words(models.WordPiece(unk_token="[UNK]"))
    letters, inner_letters = _alphabet(learner, texts, limit=vocab_size // 4)
    # The trainer numbers inner letters in the order of a hash table and breaks ties between merges by these numbers,
    # so that it learns another vocabulary each time. As special tokens they have fixed numbers.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        special_tokens=[*specials, *(f"##{letter}" for letter in inner_letters)],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer, length=len(texts))
    tokenizer = _cased_words(models.WordPiece(vocab=learner.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(specials)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, specials.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _cased_words(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _alphabet(tokenizer: Tokenizer, texts: Sequence[str], *, limit: int) -> tuple[list[str], list[str]]:
    """Return the most frequent letters, and those of them that stand inside of words."""
    words: Counter[str] = Counter()
    for text in texts:
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        words.update(word for word, _ in pieces)
    counts: Counter[str] = Counter()
    inner: set[str] = set()
    for word, count in words.items():
        inner.update(word[1:])
        for letter in word:
            counts[letter] += count
    letters = sorted(sorted(counts, key=lambda letter: (-counts[letter], letter))[:limit])
    return letters, [letter for letter in letters if letter in inner]


def _save_atomically(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    try:
        tokenizer.save_pretrained(temporary)
        os.replace(temporary, folder)
    except OSError:
        # Another process was first, with the same tokenizer: its folder is as good as this one.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
