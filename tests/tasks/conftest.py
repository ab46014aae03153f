"""A small text that every test of text tasks reads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

TEXT = "the a parser reads returns raises value error file object when if name not found token of and mapping é λ"
WORDS = TEXT.split()


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one .txt file of 400 documents of 5 to 40 words."""
    generator = random.Random(0)
    documents = (" ".join(generator.choices(WORDS, k=generator.randint(5, 40))) for _ in range(400))
    folder = tmp_path_factory.mktemp("text")
    (folder / "documents.txt").write_text("\n\n".join(documents), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share, so that each tokenizer is trained once."""
    return tmp_path_factory.mktemp("cache")
