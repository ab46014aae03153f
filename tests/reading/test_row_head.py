"""A head on rows, and the models whose head stays whole."""

from __future__ import annotations

import logging

import pytest
import torch
from builders import tiny_model

from hf_distill.reading.row_head import RowHead

IDS = torch.arange(6).reshape(2, 3)


@pytest.mark.parametrize("kind", ["masked_lm", "causal_lm"])
def test_rows_have_the_logits_of_the_whole_model(kind):
    model = tiny_model(kind)
    kept = torch.tensor([[True, False, True], [False, False, True]])
    found = RowHead(model).read(lambda: model(input_ids=IDS), lambda hidden, head: head.rows(hidden[kept]).logits())
    torch.testing.assert_close(found, model(input_ids=IDS).logits[kept], rtol=1e-6, atol=1e-6)


def test_a_model_without_a_vocabulary_is_not_forced():
    head = RowHead(tiny_model("classification"))
    assert head.problem is not None
    assert head.read(lambda: pytest.fail("the model ran"), lambda hidden, head: hidden) is None


def test_a_model_that_changes_its_logits_is_not_believed(caplog):
    """Its forward does what no configuration tells: the first forward shows it, once."""
    model = tiny_model("masked_lm")
    model.register_forward_hook(lambda module, inputs, output: output.__setattr__("logits", output.logits + 1.0))
    head = RowHead(model)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert head.read(lambda: model(input_ids=IDS), lambda hidden, split: hidden) is None
    assert head.problem is not None
    assert [record.message[:35] for record in caplog.records] == ["Logits are computed for all positio"]


def test_an_error_at_the_head_is_not_taken_for_the_models():
    model = tiny_model("masked_lm")
    head = RowHead(model)

    def fails(hidden, split):
        raise ValueError("no labels")

    with pytest.raises(ValueError, match="no labels"):
        head.read(lambda: model(input_ids=IDS), fails)
    assert head.problem is None
