"""Layers are compared in the forward that gives the logits, over the same denominators, in any stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from builders import distill_trainer, flat_weights, save_teacher_run, tiny_model
from transformers import TrainingArguments
from updates import update_of

from hf_distill import TeacherSequence

DEEP = {"num_hidden_layers": 4, "hidden_size": 32}
WIDE = {"masked_lm": DEEP, "causal_lm": {"n_layer": 4, "n_embd": 32}, "question_answering": DEEP, "seq2seq_lm": DEEP}
EAGER = {"attn_implementation": "eager"}
# transformers renamed it within version 5.
ARGUMENTS = {field.name for field in dataclasses.fields(TrainingArguments)}
CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing" in ARGUMENTS else "gradient_checkpointing"
ALL = [
    {"name": "forward_kl"},
    {"name": "hidden_mse", "projector": "linear", "layers": "uniform"},
    {"name": "relation_kl", "layers": [[2, 4]], "relation_heads": 4},
    {"name": "attention_kl", "layers": [[1, 3]]},
    {"name": "pkt", "weight": {"name": "geometric", "start": 100, "ratio": 0.7, "epochs": 50}},
]


def trainer_of(folder: Path, head: str, objectives: list[dict], **overrides):
    curriculum = {"name": "one_shot", **overrides.pop("spec", {}), "objectives": objectives}
    given = {
        "model": tiny_model(head, seed=1, **EAGER),
        "teacher": tiny_model(head, seed=7, **EAGER, **WIDE[head]),
        "curriculum": curriculum,
        "max_steps": 1,
        **overrides,
    }
    return distill_trainer(folder, head, **given)


@pytest.mark.parametrize("head", WIDE)
def test_all_terms_share_one_forward_of_each_model_and_ask_for_no_more(tmp_path, head):
    trainer = trainer_of(tmp_path, head, ALL, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    outputs = {"student": [], "teacher": []}
    models = {"student": trainer.model, "teacher": trainer.teacher.model}
    for who, model in models.items():
        model.register_forward_hook(lambda module, inputs, output, who=who: outputs[who].append(output))
    trainer.train()
    for who in outputs:
        assert len(outputs[who]) == 2, who  # micro-batches of the one step
        of_encoder = "encoder_" if head == "seq2seq_lm" else ""
        assert all(f"{of_encoder}hidden_states" not in output for output in outputs[who])
        assert all(f"{of_encoder}attentions" in output for output in outputs[who])


@pytest.mark.parametrize("head", WIDE)
def test_attentions_are_computed_only_where_they_are_compared(tmp_path, head):
    trainer = trainer_of(tmp_path, head, ALL[:3])
    seen = []
    for model in (trainer.model, trainer.teacher.model):
        model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    trainer.train()
    assert len(seen) == 2
    given = {key for output in seen for key in output} - {"encoder_last_hidden_state"}
    assert not any("attentions" in key or "hidden_state" in key for key in given)


def test_the_teacher_gets_no_gradient_and_does_not_move(tmp_path):
    teacher = tiny_model("masked_lm", seed=7, **EAGER, **WIDE["masked_lm"])
    before = flat_weights(teacher)
    trainer_of(tmp_path, "masked_lm", ALL, teacher=teacher, max_steps=2).train()
    assert torch.equal(flat_weights(teacher), before)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_with_layers_alone_every_parameter_has_a_gradient(tmp_path):
    """DistributedDataParallel waits for the head's, although no logits are compared."""
    trainer = trainer_of(tmp_path, "causal_lm", [{"name": "relation_kl", "layers": [[1, 1]]}])
    batch = {key: value[None] for key, value in trainer.train_dataset[0].items()}
    trainer.train()
    trainer.model.zero_grad()
    trainer.distillation.loss.count_window([batch], torch.device("cpu"))
    trainer.state.global_step = 0
    trainer.compute_loss(trainer.model.train(), batch).backward()
    missing = [name for name, parameter in trainer.model.named_parameters() if parameter.grad is None]
    assert missing == []
    assert trainer.model.transformer.h[1].mlp.c_fc.weight.grad.abs().max() == 0


@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_passes_of_intra_distillation_are_each_compared_with_one_forward_of_the_teacher(tmp_path, mode):
    def update(**spec) -> torch.Tensor:
        trainer = trainer_of(tmp_path / mode / str(len(spec)), "masked_lm", ALL[:4], spec=spec, learning_rate=0.01)
        calls = []
        trainer.teacher.model.register_forward_hook(lambda *call: calls.append(call))
        change = update_of(trainer)
        assert len(calls) == 1
        return change

    # Without dropout the passes agree, and their mean is one pass.
    with_passes = update(intra={"passes": 2, "alpha": 0.0, "mode": mode})
    torch.testing.assert_close(with_passes, update(), rtol=1e-4, atol=1e-7)


def test_the_logit_stage_of_an_extraction_compares_layers_too(tmp_path):
    trainer = trainer_of(tmp_path, "masked_lm", ALL[:3], spec={"name": "extraction", "steps": 1}, max_steps=4)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert ["objective/relation_kl" in entry for entry in logs] == [False, False, True, True]
    assert trainer.distillation.extractor is not None
    assert len(trainer.readout_parameters()) == 4 + 4


def test_a_term_of_weight_zero_reads_no_layers(tmp_path):
    objectives = [{"name": "forward_kl"}, {"name": "attention_kl", "weight": 0.0}]
    trainer = trainer_of(tmp_path, "masked_lm", objectives)
    seen = []
    trainer.model.register_forward_hook(lambda module, inputs, output: seen.append(output.attentions))
    trainer.train()
    assert seen == [None]


def test_teachers_loaded_by_revisions_give_attentions(tmp_path):
    teacher = TeacherSequence(str(save_teacher_run(tmp_path / "teacher", "masked_lm")))
    trainer = trainer_of(
        tmp_path / "run",
        "masked_lm",
        [{"name": "attention_kl"}],
        teacher=teacher,
        spec={"name": "two_shot", "revision": "checkpoint-10", "steps": 1},
        max_steps=2,
    )
    trainer.train()
    logged = [entry["objective/attention_kl"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    assert min(logged) > 1e-4


@pytest.mark.parametrize("head", WIDE)
def test_activation_checkpointing_keeps_the_gradient_of_layers(tmp_path, head):
    """What a hook sees inside of a checkpointed layer must be what autograd goes back through."""
    updates = []
    for checkpointing in (False, True):
        trainer = trainer_of(
            tmp_path / str(checkpointing), head, ALL[1:3], learning_rate=0.01, **{CHECKPOINTING: checkpointing}
        )
        updates.append(update_of(trainer))
    assert updates[0].norm() > 1e-4
    torch.testing.assert_close(updates[1], updates[0], rtol=1e-5, atol=1e-9)
