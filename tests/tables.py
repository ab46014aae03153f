"""Small tables of labelled text, as JSON-lines files of the Hub's columns."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SENTENCE = "the a parser reads returns raises value error file object when if name not found token of and mapping"
WORDS = SENTENCE.split()
TOKENIZER = {"train": {"kind": "wordpiece", "vocab_size": 320}}


def write_split(folder: Path, split: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one split as `<split>.jsonl` and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def sentences(count: int, *, seed: int = 0, words: tuple[int, int] = (2, 9)) -> list[str]:
    """Return sentences of known words."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(*words))) for _ in range(count)]


def sentence_rows(columns: Sequence[str], labels: Sequence[Any], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows with sentences in `columns` and the given labels."""
    texts = [sentences(len(labels), seed=seed * 10 + place) for place in range(len(columns))]
    return [
        {**dict(zip(columns, row[:-1], strict=True)), "label": row[-1], "idx": number}
        for number, row in enumerate(zip(*texts, labels, strict=True))
    ]


def write_sentences(
    folder: Path, columns: Sequence[str], labels: Sequence[Any], *, splits: Sequence[str] = ("train", "validation")
) -> Path:
    """Write splits of sentences with the same labels and return the folder."""
    for seed, split in enumerate(splits):
        write_split(folder, split, sentence_rows(columns, labels, seed=seed))
    return folder


GERMAN = dict(zip(WORDS, [f"{word[::-1]}en" for word in WORDS], strict=True))


def pair_rows(count: int, *, seed: int = 0, languages: tuple[str, str] = ("en", "de")) -> list[dict[str, Any]]:
    """Return sentences in a language whose words are known, and in another that has a word for each of them."""
    source, target = languages
    return [
        {"translation": {source: text, target: " ".join(GERMAN[word] for word in text.split())}}
        for text in sentences(count, seed=seed, words=(2, 7))
    ]


def write_pairs(folder: Path, *, splits: Sequence[str] = ("train", "validation"), count: int = 12) -> Path:
    """Write splits of translated sentences and return the folder."""
    for seed, split in enumerate(splits):
        write_split(folder, split, pair_rows(count, seed=seed))
    return folder


TAGS = ("O", "B-person", "I-person", "B-place")


def tagged_rows(count: int, *, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Return sentences of words with the numbers of their tags: `parser` is a person, `reads` its second name."""
    known = {"parser": 1, "reads": 2, "file": 3}
    rows = [sentence.split() for sentence in sentences(count, seed=seed, words=(3, 9))]
    return [
        {"id": str(number), "tokens": words, "ner_tags": [known.get(word, 0) for word in words], **more}
        for number, words in enumerate(rows)
    ]


def write_tagged(folder: Path, *, splits: Sequence[str] = ("train", "validation"), count: int = 12) -> Path:
    """Write splits of tagged sentences with the names of the tags and return the folder."""
    for seed, split in enumerate(splits):
        write_split(folder, split, tagged_rows(count, seed=seed))
    (folder / "labels.json").write_text(json.dumps(list(TAGS)), encoding="utf-8")
    return folder
