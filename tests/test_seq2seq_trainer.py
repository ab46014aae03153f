"""A student is judged by what it writes, each example once, and by the loss that every evaluation reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from builders import distill_trainer, examples, tiny_model
from heads_two_ranks import collate, unpadded
from killed_seq2seq import seq2seq_trainer
from seq2seq_models import tiny_seq2seq
from transformers import EvalPrediction, GenerationConfig

import hf_distill
from hf_distill.seq2seq_trainer import ProgressiveDistillSeq2SeqConfig, ProgressiveDistillSeq2SeqTrainer


class Seen:
    """Metrics that keep what they were given."""

    def __init__(self) -> None:
        self.last: Any = None

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        self.last = prediction
        return {"count": float(len(prediction.predictions))}


def generated_by_hand(trainer: ProgressiveDistillSeq2SeqTrainer, data: list, **settings: Any) -> list[list[int]]:
    """What the student writes, one example after the other, without padding behind EOS."""
    model, texts = trainer.model.eval(), []
    for item in data:
        given = {key: item[key][None] for key in ("input_ids", "attention_mask")}
        ids = model.generate(**given, do_sample=False, **settings)[0].tolist()
        texts.append(without_padding(ids))
    return texts


def without_padding(ids: list[int]) -> list[int]:
    """The ids up to EOS or to the last that is not padding, the decoder's start left out."""
    body = [token for token in ids[1:] if token >= 0]
    body = body[: body.index(1) + 1] if 1 in body else body
    return body[: max((place for place, token in enumerate(body, 1) if token), default=0)]


def test_metrics_get_no_logits_and_each_example_once(tmp_path):
    seen, data = Seen(), unpadded("t5")
    trainer = seq2seq_trainer(
        tmp_path,
        train_dataset=data,
        data_collator=collate,
        compute_metrics=seen,
        per_device_eval_batch_size=3,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_count"] == 8
    ours = [without_padding(ids) for ids in seen.last.predictions.tolist()]
    assert ours == generated_by_hand(trainer, data, max_length=6)
    assert len({tuple(ids) for ids in ours}) > 1
    labels = [[token for token in row if token != -100] for row in seen.last.label_ids.tolist()]
    assert labels == [item["labels"].tolist() for item in data]


def test_groups_of_one_length_keep_the_order_of_held_out_texts(tmp_path):
    seen, data = Seen(), unpadded("t5")
    trainer = seq2seq_trainer(
        tmp_path,
        train_dataset=data,
        data_collator=collate,
        compute_metrics=seen,
        per_device_eval_batch_size=3,
        train_sampling_strategy="group_by_length",
        max_steps=2,
    )
    trainer.train()
    trainer.evaluate()
    labels = [[token for token in row if token != -100] for row in seen.last.label_ids.tolist()]
    assert labels == [item["labels"].tolist() for item in data]


def test_generating_keeps_the_loss_that_is_reported_and_asks_no_teacher(tmp_path):
    """The mean over labelled tokens of a batch, which the model's own loss would be too, but with label smoothing."""
    data, teacher, calls = examples("seq2seq_lm"), tiny_seq2seq("t5", seed=7), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    given = {"train_dataset": data, "eval_dataset": data, "label_smoothing_factor": 0.1, "teacher": teacher}
    writes = seq2seq_trainer(tmp_path, **given, compute_metrics=Seen())
    reads = distill_trainer(tmp_path, "seq2seq_lm", model=writes.model, **given)
    only_reads = seq2seq_trainer(tmp_path, model=writes.model, **given, predict_with_generate=False)
    losses = [trainer.evaluate()["eval_loss"] for trainer in (writes, reads, only_reads)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == losses[2]
    assert not calls


def test_arguments_of_a_call_go_before_those_of_the_training(tmp_path):
    seen, data = Seen(), unpadded("t5", count=3)
    trainer = seq2seq_trainer(tmp_path, train_dataset=data, data_collator=collate, compute_metrics=seen)
    for settings in ({"max_length": 6}, {"max_length": 9}, {"max_length": 9, "num_beams": 3}):
        trainer.evaluate(**{} if settings == {"max_length": 6} else settings)
        ours = [without_padding(ids) for ids in seen.last.predictions.tolist()]
        assert ours == generated_by_hand(trainer, data, **settings), settings
        assert max(map(len, ours)) <= settings["max_length"] - 1


def test_the_generation_configuration_given_becomes_the_models(tmp_path):
    wanted = GenerationConfig(
        max_new_tokens=3, min_new_tokens=3, decoder_start_token_id=0, eos_token_id=1, pad_token_id=0
    )
    seen = Seen()
    trainer = seq2seq_trainer(tmp_path, generation_config=wanted, generation_max_length=None, compute_metrics=seen)
    trainer.evaluate()
    assert trainer.model.generation_config.max_new_tokens == 3
    assert (seen.last.predictions[:, 1:4] != 1).all()
    assert (seen.last.predictions[:, 4:] == 0).all()


def test_a_teacher_does_not_keep_the_student_from_writing_before_its_first_step(tmp_path):
    trainer = seq2seq_trainer(
        tmp_path,
        teacher=tiny_seq2seq("t5", seed=7, width=32),
        compute_metrics=Seen(),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_count" in entry]
    assert [entry["eval_count"] for entry in logged] == [8.0] * 3
    assert all(np.isfinite(entry["eval_loss"]) for entry in logged)


def test_a_prefix_that_is_no_copy_of_the_labels_is_not_continued(tmp_path):
    trainer = seq2seq_trainer(tmp_path)
    batch = collate(examples("seq2seq_lm", count=2))
    copied = {**batch, "decoder_input_ids": torch.zeros_like(batch["labels"])}
    assert set(trainer._to_write_from(copied)) == {"input_ids", "attention_mask"}
    prefix = {**copied, "decoder_input_ids": torch.tensor([[0, 9], [0, 8]])}
    del prefix["labels"]
    _, written, _ = trainer.prediction_step(trainer.model.eval(), prefix, prediction_loss_only=False)
    assert written[:, :2].tolist() == [[0, 9], [0, 8]]


def test_texts_without_labels_are_written_too(tmp_path):
    data = [{key: item[key] for key in ("input_ids", "attention_mask")} for item in examples("seq2seq_lm")]
    found = seq2seq_trainer(tmp_path).predict(data)
    assert len(found.predictions) == 8
    assert max(len(without_padding(ids)) for ids in found.predictions.tolist()) <= 5
    assert found.label_ids is None and "test_loss" not in found.metrics


def test_models_that_write_no_sequence_of_their_own_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is for sequence-to-sequence models, but the student has a masked_lm head"):
        seq2seq_trainer(tmp_path, model=tiny_model("masked_lm"))


def test_the_configuration_has_what_both_parents_have(tmp_path):
    made = ProgressiveDistillSeq2SeqConfig(
        str(tmp_path), curriculum="labels", predict_with_generate=True, generation_num_beams=4, use_cpu=True
    )
    assert made.curriculum_spec() == {"name": "labels"}
    assert made.to_dict()["generation_num_beams"] == 4
    with pytest.raises(ValueError, match="at_switch must be"):
        ProgressiveDistillSeq2SeqConfig(str(tmp_path), at_switch="never", use_cpu=True)


def test_the_package_shows_the_trainer():
    assert hf_distill.ProgressiveDistillSeq2SeqTrainer is ProgressiveDistillSeq2SeqTrainer
    assert hf_distill.ProgressiveDistillSeq2SeqConfig is ProgressiveDistillSeq2SeqConfig
