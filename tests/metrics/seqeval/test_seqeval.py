from __future__ import annotations

import pytest
from seqeval.metrics import f1_score

from hf_distill.metrics import load_metric


def test_the_module_agrees_with_seqeval() -> None:
    references = [["B-person", "I-person", "O"], ["O", "B-group"]]
    predictions = [["B-person", "I-person", "B-group"], ["O", "O"]]
    result = load_metric("seqeval").compute(predictions=predictions, references=references)
    assert result["f1"] == pytest.approx(f1_score(references, predictions), abs=1e-12) == 0.5
    assert result["tag_accuracy"] == pytest.approx(0.6)
    assert result["types"]["person"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "number": 1.0}
