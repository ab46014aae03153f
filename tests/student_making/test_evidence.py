from __future__ import annotations

import math

import pytest
import torch
from student_cases import inputs_of, teacher_of

from hf_distill.analysis.layer_similarity import layer_similarity_info
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.evidence import forwards_of, gather_evidence


def batches_of(teacher, count: int = 3) -> list[dict]:
    made = []
    for seed in range(count):
        batch = inputs_of(teacher, seed=seed)
        labels = batch.pop("decoder_input_ids", batch["input_ids"])
        made.append({**batch, "attention_mask": torch.ones_like(batch["input_ids"]), "labels": labels})
    return made


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "marian", "t5"])
def test_both_choices_look_at_every_layer_of_every_stack(name):
    teacher = teacher_of(name)
    seen: list[int] = []
    two = name in ("marian", "t5")
    other = {"decoder_layers": "sensitivity:2"} if two else {"intermediate_size": 4, "choose": "sensitivity"}
    found = gather_evidence(
        teacher, StudentCut(layers="cka:2", **other), batches_of(teacher), on_batch=lambda: seen.append(1)
    )
    stacks = {"encoder", "decoder"} if two else {"layers"}
    for how in ("cka", "sensitivity"):
        assert set(found.layers[how]) == stacks
        assert all(
            len(worth) == 4 and all(math.isfinite(one) for one in worth) for worth in found.layers[how].values()
        )
    assert len(seen) == 6
    assert set(found.sensitivity) == {name for name, _ in teacher.named_parameters()}


def test_the_change_of_a_layer_is_one_minus_the_similarity_of_its_sides_on_attended_positions():
    teacher = teacher_of("bert")
    (batch,) = batches_of(teacher, 1)
    batch["attention_mask"][1, 4:] = 0
    found = gather_evidence(teacher, StudentCut(layers="cka:1"), [batch]).layers["cka"]["layers"]
    with torch.no_grad():
        hidden = teacher(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
        ).hidden_states
    rows = [states[batch["attention_mask"].bool()] for states in hidden]
    for layer in range(4):
        alike = layer_similarity_info([rows[layer]], [rows[layer + 1]]).similarity[0][0]
        assert found[layer] == pytest.approx(1 - alike, rel=1e-6)


def test_the_sensitivity_of_a_layer_leaves_out_what_serves_all():
    teacher = teacher_of("t5")
    found = gather_evidence(teacher, StudentCut(layers="sensitivity:1"), batches_of(teacher))
    total = sum(
        found.sensitivity[name].sum().item()
        for name in found.sensitivity
        if name.startswith("encoder.block.0.") and "relative_attention_bias" not in name
    )
    assert found.layers["sensitivity"]["encoder"][0] == pytest.approx(total, rel=1e-9)


def test_the_teacher_is_asked_without_dropout_and_left_as_it_was():
    teacher = teacher_of("bert", hidden_dropout_prob=0.5).train()
    teacher.bert.embeddings.eval()
    cut = StudentCut(layers="cka:2")
    once, twice = (gather_evidence(teacher, cut, batches_of(teacher)).layers for _ in range(2))
    assert once == twice
    assert teacher.training
    assert not teacher.bert.embeddings.training


def test_sensitivity_without_labels_is_refused():
    teacher = teacher_of("bert")
    batches = [{key: value for key, value in batch.items() if key != "labels"} for batch in batches_of(teacher)]
    with pytest.raises(ValueError, match="sensitivity needs the loss of labels"):
        gather_evidence(teacher, StudentCut(layers="sensitivity:2"), batches)


def test_the_work_ahead_is_known():
    assert forwards_of(StudentCut(layers="cka:2"), 5) == 5
    assert forwards_of(StudentCut(layers="cka:2", hidden_size=4, choose="sensitivity"), 5) == 10
    assert forwards_of(StudentCut(layers="first:2"), 5) == 0
