from __future__ import annotations

import pytest
import sacrebleu

from hf_distill.metrics import load_metric


def test_the_module_computes_the_bleu_of_the_library() -> None:
    texts, references = ["the cat sat on the mat", "A Dog"], ["the cat is on the mat", "a dog"]
    module = load_metric("sacrebleu")
    found = module.compute(predictions=texts, references=references, lowercase=True, tokenize="none")
    theirs = sacrebleu.corpus_bleu(texts, [references], lowercase=True, tokenize="none")
    assert found["bleu"] == pytest.approx(theirs.score)
    assert found["signature"].startswith("nrefs:1|case:lc|eff:no|tok:none|smooth:exp")
