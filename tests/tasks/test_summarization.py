"""Texts and their summaries, scored by ROUGE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from tables import write_split

from hf_distill.tasks import TASKS, Summarization

ROWS = [{"article": f"the cat number {n} sat on the mat", "highlights": f"cat {n} sat"} for n in range(6)]


def build(folder: Path, **fields: Any) -> Summarization:
    spec = {"name": "summarization", "data": {"path": str(folder)}}
    task = TASKS.build({**spec, "tokenizer": {"train": {"kind": "bpe", "vocab_size": 300}}, **fields}, path="task")
    assert isinstance(task, Summarization)
    return task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_split(write_split(tmp_path, "train", ROWS), "validation", ROWS[:2])


def test_a_summary_is_not_the_text(folder: Path) -> None:
    data = build(folder, max_source_length=8).prepare(seed=0, cache_dir=folder)
    assert data.tokenizer is not None
    assert data.tokenizer.decode(data.train[0]["labels"]) == "cat 0 sat<|endoftext|>"
    assert data.description["counted"]["train"]["sources cut"] == 6
    assert data.description["preprocessing"].startswith("article to highlights; at most 8 tokens of a source")


def test_the_score_is_the_librarys(folder: Path) -> None:
    texts, references = ["the cats sat", "a dog"], ["the cat sat", "dogs here"]
    found = build(folder).score()(texts, references)
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for name in ("rouge1", "rougeL"):
        expected = [scorer.score(r, t)[name].fmeasure for r, t in zip(references, texts, strict=True)]
        assert found[name] == pytest.approx(50 * sum(expected))
    assert found["mean_words"] == 2.5
    assert build(folder, use_stemmer=False).score()(texts, references)["rouge1"] < found["rouge1"]


def test_columns_that_are_missing_or_hold_no_text_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="has no column 'document'"):
        build(folder, text_column="document").prepare(seed=0, cache_dir=folder)
    with pytest.raises(ValueError, match="summary_column: is the text's column, 'article'"):
        build(folder, summary_column="article")
    write_split(folder, "train", [{"article": "a", "highlights": None}])
    with pytest.raises(ValueError, match=r"row 0 of .* has no text under 'highlights' but None"):
        build(folder).prepare(seed=0, cache_dir=folder)
