"""Everybody who took part is found, pinned by the weights, and what does not fit is refused by name."""

from __future__ import annotations

import shutil

import pytest
import torch
from analysed_run import parity_run, text_run
from builders import flat_weights, tiny_model
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForMaskedLM

from hf_distill.evaluation.candidates import candidates_of, teachers_of
from hf_distill.tasks import ParityMlpForSequenceClassification


def test_teacher_students_and_baselines_come_in_this_order_each_with_its_own_weights(tmp_path):
    run = parity_run(tmp_path / "run")
    shutil.copytree(tmp_path / "run/teacher/checkpoint-10", tmp_path / "other")
    found = candidates_of(run, teachers_of(run), [str(tmp_path / "other")])
    assert [(one.role, one.name) for one in found] == [
        ("teacher", "teacher, checkpoint-30"),
        ("student", "labels, seed 0"),
        ("student", "labels, seed 1"),
        ("student", "one_shot, seed 0"),
        ("student", "one_shot, seed 1"),
        ("baseline", "other"),
    ]
    assert len({one.commit for one in found}) == len({one.key for one in found}) == 6
    for one in found:
        kept = ParityMlpForSequenceClassification.from_pretrained(one.folder)
        assert torch.equal(flat_weights(one.load()), flat_weights(kept))
        assert one.weight_bytes == (one.folder / "model.safetensors").stat().st_size


def test_a_run_without_finished_students_is_refused(tmp_path):
    run = parity_run(tmp_path / "run", students=())
    with pytest.raises(ValueError, match="no finished student to evaluate"):
        candidates_of(run, teachers_of(run), [])


def test_a_teacher_that_was_not_trained_yet_is_said_to_be_missing(tmp_path):
    run = parity_run(tmp_path / "run")
    shutil.rmtree(run.workspace.teacher)
    with pytest.raises(ValueError, match="has not trained this teacher yet"):
        teachers_of(run)


def test_a_baseline_that_is_not_there_or_has_another_head_is_named(tmp_path):
    run = parity_run(tmp_path / "run")
    tiny_model("masked_lm").save_pretrained(tmp_path / "masked")
    for source, match in ((tmp_path / "nowhere", "nowhere"), (tmp_path / "masked", "masked_lm head")):
        with pytest.raises(ValueError, match=f"baseline .*{match}"):
            candidates_of(run, teachers_of(run), [str(source)])


def test_a_baseline_that_reads_other_inputs_is_refused_when_it_is_loaded(tmp_path):
    run = parity_run(tmp_path / "run")
    tiny_model("classification").save_pretrained(tmp_path / "bert")
    *_, baseline = candidates_of(run, teachers_of(run), [str(tmp_path / "bert")])
    with pytest.raises(ValueError, match=r"baseline .*bert"):
        baseline.load()


def test_a_baseline_with_another_tokenizer_is_refused(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,))
    shutil.copytree(run.workspace.teacher / "checkpoint-10", tmp_path / "foreign")
    vocabulary = (tmp_path / "foreign" / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "foreign" / "tokenizer.json").write_text(vocabulary.replace('"[MASK]": 4', '"[MASK]": 400'))
    *_, baseline = candidates_of(run, teachers_of(run), [str(tmp_path / "foreign")])
    with pytest.raises(ValueError, match=r"baseline .*tokenizer"):
        baseline.load()


def test_a_run_without_a_teacher_compares_with_nobody(tmp_path):
    run = parity_run(tmp_path / "run")
    run.recipe.teacher = None
    teachers = teachers_of(run)
    assert (teachers.models, teachers.reference) == ({}, None)
    assert {one.role for one in candidates_of(run, teachers, [])} == {"student"}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_a_student_that_is_an_adapter_alone_is_measured_with_its_base(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,), students=("labels",), seeds=(0,))
    place = run.workspace.student("labels", 0)
    base = shutil.copytree(place, tmp_path / "base")
    adapted = get_peft_model(
        AutoModelForMaskedLM.from_pretrained(base), LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    )
    (place / "model.safetensors").unlink()
    (place / "config.json").unlink()
    adapted.save_pretrained(place)
    _, student = candidates_of(run, teachers_of(run), [])
    assert student.weight_bytes == (place / "adapter_model.safetensors").stat().st_size
    assert student.commit.startswith("sha256:")
    ids = torch.tensor([[5, 6, 7]])
    assert torch.allclose(student.load()(input_ids=ids).logits, adapted.eval()(input_ids=ids).logits, atol=1e-5)
