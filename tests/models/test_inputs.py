"""What a decoder reads is made of labels as the model makes it itself, and student and teacher must agree on it."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_model
from seq2seq_models import tiny_seq2seq
from torch import nn

from hf_distill.models.inputs import check_decoder_inputs, in_weights_format, model_inputs, shifted_right

X = -100
LABELS = torch.tensor([[7, 8, 1, X], [9, 1, X, X]])
BATCH = {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.ones(2, 3), "labels": LABELS}


def test_pixels_do_not_meet_weights_of_another_format():
    inputs = {"pixel_values": torch.ones(2, 3), "input_ids": torch.ones(2, dtype=torch.long), "use_cache": False}
    given = in_weights_format(inputs, nn.Linear(3, 1).to(torch.bfloat16))
    assert given["pixel_values"].dtype == torch.bfloat16
    assert given["input_ids"].dtype == torch.long
    assert given["use_cache"] is False
    assert inputs["pixel_values"].dtype == torch.float32
    assert in_weights_format(inputs, nn.Identity()) == inputs


@pytest.mark.parametrize(("architecture", "start"), [("t5", 0), ("marian", 0), ("bart", 2)])
def test_the_decoder_reads_the_start_that_its_model_writes(architecture, start):
    model = tiny_seq2seq(architecture, decoder_start_token_id=start)
    given = model_inputs("seq2seq_lm", BATCH, nn.Sequential(model))
    assert given["decoder_input_ids"].tolist() == [[start, 7, 8, 1], [start, 9, 1, 0]]
    assert "decoder_input_ids" not in BATCH


@pytest.mark.parametrize("key", ["decoder_input_ids", "decoder_inputs_embeds"])
def test_what_the_collator_added_is_not_replaced(key):
    batch = {**BATCH, key: torch.zeros(2, 4)}
    assert model_inputs("seq2seq_lm", batch, tiny_seq2seq("t5")) == batch


@pytest.mark.parametrize("head", ["classification", "token_classification", "question_answering", "masked_lm"])
def test_other_models_are_given_no_decoders_input_or_positions(head):
    assert model_inputs(head, BATCH, tiny_model(head)).keys() == BATCH.keys()
    assert "position_ids" in model_inputs("causal_lm", BATCH)


def test_a_decoder_without_labels_is_refused_before_the_model_fails():
    batch = {key: value for key, value in BATCH.items() if key != "labels"}
    with pytest.raises(ValueError, match=r"reads `decoder_input_ids`, or `labels` .* only \['attention_mask', 'input"):
        model_inputs("seq2seq_lm", batch, tiny_seq2seq("t5"))
    with pytest.raises(ValueError, match="use a collator that adds them"):
        model_inputs("seq2seq_lm", BATCH)


def test_a_model_that_cannot_shift_is_named():
    with pytest.raises(ValueError, match="BertForMaskedLM makes no decoder input from labels; use a collator that"):
        shifted_right(tiny_model("masked_lm"), LABELS)


@pytest.mark.parametrize(("key", "ours", "theirs"), [("decoder_start_token_id", 0, 2), ("pad_token_id", 3, 0)])
def test_a_teacher_that_starts_or_pads_otherwise_is_refused(key, ours, theirs):
    student, teacher = (tiny_seq2seq("t5", **{key: value}).config for value in (ours, theirs))
    with pytest.raises(ValueError, match=f"the student's {key} is {ours} and the teacher's {theirs}, but both decod"):
        check_decoder_inputs(student, teacher)
    check_decoder_inputs(student, student)
