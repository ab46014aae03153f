"""The trainer's loss: the curriculum's in training, the labels' in evaluation; the columns that both models read."""

from __future__ import annotations

import pytest
import torch
from builders import HEADS, distill_trainer, examples, tiny_model
from datasets import Dataset
from torch.utils.data import default_collate
from transformers import DistilBertConfig, DistilBertForSequenceClassification

READ = ("input_ids", "attention_mask", "labels")


def batch_of(head: str) -> dict[str, torch.Tensor]:
    return default_collate(examples(head, count=4))


@pytest.mark.parametrize("head", HEADS)
def test_evaluation_asks_no_teacher_and_reports_the_label_loss(tmp_path, head):
    """0.3 · labels + 0.7 · teacher in training; the labels alone in evaluation."""
    curriculum = {"name": "one_shot", "label_mix": 0.3}
    trainer = distill_trainer(tmp_path, head, teacher=tiny_model(head, seed=7), curriculum=curriculum)
    plain = distill_trainer(tmp_path, head, model=trainer.model)
    batch = batch_of(head)
    for one in (trainer, plain):
        one.distillation.begin(step=0, max_steps=1)
        one.distillation.count_window([batch], torch.device("cpu"))
    mixed, labels = (one.compute_loss(one.model.train(), batch).item() for one in (trainer, plain))
    evaluated, outputs = trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)
    assert evaluated.item() == pytest.approx(labels, rel=1e-5)
    assert mixed != pytest.approx(labels, rel=1e-3)
    expected = ["start_logits", "end_logits"] if head == "question_answering" else ["logits"]
    assert list(outputs) == ["loss", *expected]
    assert all(len(outputs[key]) == 4 for key in expected)


def test_a_column_that_only_the_teacher_reads_is_kept(tmp_path):
    """BERT reads `token_type_ids`, DistilBERT does not; both get one batch."""
    torch.manual_seed(1)
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=16, num_labels=3)
    student, teacher = DistilBertForSequenceClassification(config), tiny_model("classification", seed=7)
    seen: list[set[str]] = []
    for model in (student, teacher):
        model.register_forward_pre_hook(lambda _module, _args, given: seen.append(set(given)), with_kwargs=True)
    columns: dict[str, list] = {key: [item[key].tolist() for item in examples("classification")] for key in READ}
    data = Dataset.from_dict({**columns, "token_type_ids": columns["attention_mask"], "other": columns["labels"]})
    distill_trainer(tmp_path, model=student, teacher=teacher, train_dataset=data, max_steps=1).train()
    assert seen == [{"input_ids", "attention_mask"}, {"input_ids", "attention_mask", "token_type_ids"}]
