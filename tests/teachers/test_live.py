from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from builders import examples, tiny_model
from teacher_folders import save_teacher
from transformers import AutoModelForSequenceClassification

from hf_distill import LiveTeacher
from hf_distill.teachers.live import content_hash


def test_the_model_itself_answers_frozen_and_in_eval_mode():
    model = tiny_model("classification", hidden_dropout_prob=0.5).train()
    teacher = LiveTeacher(model)
    teacher.attach(head="classification", accelerator=Accelerator(cpu=True))
    assert teacher.model is model
    batch = {key: torch.stack([item[key] for item in examples("classification")]) for key in ("input_ids", "labels")}
    first, second = teacher.logits(batch), teacher.logits(batch)
    assert torch.equal(first, second), "dropout is off"
    assert not first.requires_grad


def test_it_has_one_revision_pinned_by_its_weights():
    model = tiny_model("classification")
    (revision,) = LiveTeacher(model).revisions
    assert (revision.name, revision.step, revision.revision) == ("final", None, None)
    assert revision.commit == f"sha256:{content_hash(model)}"
    assert LiveTeacher(copy.deepcopy(model)).revisions[0].commit == revision.commit


def test_its_source_names_where_the_weights_came_from(tmp_path):
    loaded = AutoModelForSequenceClassification.from_pretrained(save_teacher(tmp_path / "bert"))
    assert LiveTeacher(loaded).manifest()[0]["source"] == str(tmp_path / "bert")
    assert LiveTeacher(tiny_model("causal_lm")).manifest()[0]["source"] == "GPT2LMHeadModel"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_hash_sees_one_changed_weight_in_every_number_format(dtype):
    model = tiny_model("classification").to(dtype)
    before = content_hash(model)
    with torch.no_grad():
        model.classifier.bias[1] += 1
    assert content_hash(model) != before
    assert content_hash(tiny_model("classification").to(torch.float16)) != content_hash(tiny_model("classification"))


def test_there_is_no_other_revision_to_enter():
    teacher = LiveTeacher(tiny_model("classification"))
    assert teacher.enter(0) == 0.0
    with pytest.raises(ValueError, match="one revision, number 0; revision 1 was asked for"):
        teacher.enter(1)


def test_a_model_with_another_head_is_refused():
    with pytest.raises(ValueError, match=r"student has a classification head and the teacher, BertForMaskedLM"):
        LiveTeacher(tiny_model("masked_lm")).attach(head="classification", accelerator=None)
