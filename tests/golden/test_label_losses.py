"""Golden values of the losses with labels, against closed forms and transformers' own heads."""

from __future__ import annotations

import math

import pytest
import torch
from builders import distill_trainer, examples, tiny_model

from hf_distill.objectives import CrossEntropy
from hf_distill.reading.signals import Signals


def test_cross_entropy_of_three_logits_has_its_closed_form():
    """−log softmax([1, 2, 3])[0] = log(1 + e + e²) = 2.4076059644443806."""
    signals = Signals(student_logits=torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64), labels=torch.tensor([0]))
    value = CrossEntropy().values(signals, temperature=1.0).item()
    assert value == pytest.approx(math.log(1 + math.e + math.e**2), rel=1e-14)
    assert value == pytest.approx(2.4076059644443806, rel=1e-14)


@pytest.mark.parametrize("head", ["classification", "regression", "masked_lm", "causal_lm"])
def test_the_label_loss_is_that_of_transformers_own_head(tmp_path, head):
    """On one right-padded batch: there, the stock heads' mean over labelled items is ours."""
    trainer = distill_trainer(tmp_path, head)
    model = tiny_model(head, seed=1).eval()
    batch = trainer.data_collator(examples(head))
    with torch.no_grad():
        stock = model(**batch).loss.item()
        ours = trainer.compute_loss(model, batch).item()
    assert ours == pytest.approx(stock, rel=1e-6)
