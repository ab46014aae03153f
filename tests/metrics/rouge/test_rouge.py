from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from hf_distill.metrics import load_metric


def test_the_module_computes_the_rouge_of_the_library() -> None:
    texts, references = ["the cats sat on the mat"], ["the cat sat on a mat"]
    found = load_metric("rouge").compute(predictions=texts, references=references)
    theirs = RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score(references[0], texts[0])
    assert found["rouge1"] == pytest.approx(100 * theirs["rouge1"].fmeasure)
    assert found["rougeL"] == pytest.approx(100 * theirs["rougeL"].fmeasure)
