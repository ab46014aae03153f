"""Texts behind each other in one row: the update of padded batches, or a refusal."""

from __future__ import annotations

import pytest
import torch
from builders import distill_trainer, flat_weights, tiny_model
from ragged_texts import Collator, texts
from transformers import DataCollatorWithFlattening, LlamaConfig, LlamaForCausalLM

from hf_distill.reading.flattened import columns, is_flattened, refuse_mixed, text_starts


def llama(seed: int, attention: str) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, num_hidden_layers=2, initializer_range=0.3, attn_implementation=attention)
    return LlamaForCausalLM(config)


def gpt2(seed: int, attention: str) -> torch.nn.Module:
    return tiny_model("causal_lm", seed=seed, attn_implementation=attention)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_flattened_texts_do_not_see_each_other(tmp_path, make, attention):
    runs = []
    for flattened in (False, True):
        trainer = distill_trainer(
            tmp_path / str(flattened),
            "causal_lm",
            model=make(1, attention),
            teacher=make(7, attention),
            train_dataset=texts("causal_lm", mask=not flattened),
            data_collator=DataCollatorWithFlattening() if flattened else Collator("right"),
            curriculum={"name": "one_shot", "label_mix": 0.3},
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_steps=2,
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        runs.append((flat_weights(trainer.model), torch.tensor(losses)))
    for padded, flat in zip(*runs, strict=True):
        torch.testing.assert_close(flat, padded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_model_that_mixes_texts_is_not_trained_on_them(tmp_path, who):
    """An encoder reads all of a row at once; here it stands for any decoder with a mask of its own making."""
    head, batches = ("masked_lm", "masked_lm") if who == "student" else ("causal_lm", "causal_lm")
    teacher = tiny_model(head, seed=7)
    if who == "teacher":
        # What a cache for generation does to the mask, whatever it is told.
        teacher.transformer.register_forward_pre_hook(
            lambda module, inputs, named: (inputs, {**named, "use_cache": True}), with_kwargs=True
        )
    trainer = distill_trainer(
        tmp_path,
        head,
        teacher=teacher,
        train_dataset=texts(batches, mask=False),
        data_collator=DataCollatorWithFlattening(),
        per_device_train_batch_size=2,
    )
    with pytest.raises(ValueError, match=rf"the {who}, \w+, lets the texts of a flattened batch see each other"):
        trainer.train()


def test_a_row_with_one_text_does_not_settle_the_matter(tmp_path):
    data = texts("masked_lm", mask=False)
    settings = {"teacher": tiny_model("masked_lm", seed=7), "data_collator": DataCollatorWithFlattening()}
    trainer = distill_trainer(tmp_path, "masked_lm", train_dataset=data, per_device_train_batch_size=1, **settings)
    trainer.train()
    assert not trainer.distillation.step_loss._flattened._checked
    trainer = distill_trainer(tmp_path, "masked_lm", train_dataset=data, per_device_train_batch_size=2, **settings)
    with pytest.raises(ValueError, match="flattened batch"):
        trainer.train()


def test_texts_begin_where_positions_go_on():
    assert text_starts(torch.tensor([[2, 3, 4, 2, 3, 2]])) == [0, 3, 5]
    assert text_starts(torch.tensor([[0, 1, 2]])) == [0]


@pytest.mark.parametrize(
    ("inputs", "flattened"),
    [
        ({"position_ids": torch.zeros(1, 3)}, True),
        ({"position_ids": torch.zeros(1, 3), "attention_mask": torch.ones(1, 3)}, False),
        ({"position_ids": torch.zeros(2, 3)}, False),
        ({"input_ids": torch.zeros(1, 3)}, False),
    ],
)
def test_a_padded_batch_is_told_from_a_flattened_one(inputs, flattened):
    assert is_flattened(inputs) == flattened


def test_columns_leave_out_what_has_none():
    batch = {"position_ids": torch.arange(4)[None], "labels": torch.arange(4)[None], "cu_seq_lens_q": torch.arange(3)}
    found = columns(batch, 1, 3)
    assert {key: value.tolist() for key, value in found.items()} == {"position_ids": [[1, 2]], "labels": [[1, 2]]}


def test_rounding_is_not_taken_for_mixing():
    logits = torch.randn(50)
    refuse_mixed("student", "X", logits, logits + 1e-6)
    refuse_mixed("student", "X", logits.bfloat16(), (logits + 1e-3).bfloat16())
    with pytest.raises(ValueError, match="the student, X, lets"):
        refuse_mixed("student", "X", logits, logits + 1e-2)
