"""The pairs of the tables have the sizes of the published models."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig

from hf_distill.planning.pairs import CHOSEN, PAIRS, QWEN, Pair, batch_of, config_at, size_of_config


@pytest.mark.parametrize(
    ("name", "parameters"), [("0.5B", 494_032_768), ("1.5B", 1_543_714_304), ("7.6B", 7_615_616_512)]
)
def test_a_qwen_has_its_published_size(name, parameters):
    size = size_of_config(QWEN[name](), "causal_lm")
    assert (size.parameters, size.weight_bytes) == (parameters, 2 * parameters)


def test_bert_has_its_published_size():
    work = PAIRS["bert"].work()
    assert (work.student.parameters, work.teacher.parameters) == (109_514_298, 335_174_458)
    assert work.student.weight_bytes == 4 * work.student.parameters
    assert work.settings.accumulation * work.shape.examples == PAIRS["bert"].examples
    assert not work.causal
    assert PAIRS["qwen"] is CHOSEN["1.5B"]


@pytest.mark.parametrize(
    ("head", "rows"), [("masked_lm", 77), ("causal_lm", 508), ("token_classification", 512), ("classification", 4)]
)
def test_a_head_counts_the_rows_of_its_loss(head, rows):
    assert batch_of(head, examples=4, tokens=128).rows == rows


def test_not_any_configuration_will_do(tmp_path):
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    config.save_pretrained(tmp_path)
    pair = Pair(
        title="t",
        student=config_at(str(tmp_path)),
        teacher=config_at(str(tmp_path)),
        head="classification",
        tokens=16,
        micro_batch=8,
        examples=4,
    )
    work = pair.work()
    assert work.student.outputs == 2
    assert (work.tiled, work.settings.accumulation) == (False, 1)
    assert size_of_config(config, "classification", dtype=torch.bfloat16).weight_bytes == 2 * work.student.parameters
