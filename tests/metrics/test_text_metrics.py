"""Generated ids become texts without special tokens and padding, and belong to their references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from hf_distill.metrics.text_metrics import TextMetrics, only_ids
from hf_distill.tasks.tokenizer_training import train_tokenizer

TOKENIZER = train_tokenizer(["the cat sat"], kind="bpe", vocab_size=300)
PAD, END = TOKENIZER.pad_token_id, TOKENIZER.eos_token_id


def ids(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


def metrics(references: list[str], targets: list[int]) -> TextMetrics:
    return TextMetrics(
        tokenizer=TOKENIZER,
        references=references,
        targets_S=np.array(targets, dtype=np.int32),
        score=lambda texts, known: {"same": float(sum(a == b for a, b in zip(texts, known, strict=True)))},
    )


def rows(*values: list[int], fill: int = -100) -> np.ndarray:
    width = max(map(len, values))
    return np.array([[*row, *[fill] * (width - len(row))] for row in values])


def test_padding_and_special_tokens_are_not_written():
    first, second = [*ids("the cat sat"), END], [*ids("dog"), END]
    found = metrics(["the cat sat", "dog"], [*first, *second])
    written = rows([PAD, *first, PAD], [PAD, *second])
    assert found.texts(written) == ["the cat sat", "dog"]
    assert found(EvalPrediction(predictions=written, label_ids=rows(first, second))) == {"same": 2.0}


def test_texts_in_another_order_are_refused():
    found = metrics(["the cat", "dog"], [*ids("the cat"), END, *ids("dog"), END])
    swapped = rows([*ids("dog"), END], [*ids("the cat"), END])
    with pytest.raises(ValueError, match="2 predictions do not belong to the 2 references in their order; evaluate"):
        found(EvalPrediction(predictions=swapped, label_ids=swapped))
    with pytest.raises(ValueError, match="1 predictions do not belong to the 2 references"):
        found(EvalPrediction(predictions=swapped[:1], label_ids=swapped[:1]))


def test_logits_are_not_taken_for_texts():
    tokens = torch.ones(2, 3, dtype=torch.long)
    assert only_ids(tokens, tokens) is tokens
    with pytest.raises(ValueError, match="evaluation gives logits; set predict_with_generate: true"):
        only_ids((torch.zeros(2, 3, 4), tokens), tokens)
