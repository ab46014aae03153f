from __future__ import annotations

import pytest
import sacrebleu

from hf_distill.metrics import load_metric


def test_the_module_computes_the_chrf_of_the_library() -> None:
    texts, references = ["the cat sat on the mat", "A Dog"], ["the cat is on the mat", "a dog"]
    found = load_metric("chrf").compute(predictions=texts, references=references, word_order=2)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [references], word_order=2).score)
    assert "nw:2" in found["signature"]
