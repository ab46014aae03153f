from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import save_teacher_run
from student_cases import TEACHERS, logits_of, teacher_of
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, ViTConfig, ViTModel

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.making import make_student
from hf_distill.student_making.teacher_model import class_of, find_teacher
from hf_distill.teachers.weight_files import content_hash


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_loaded_as_what_it_was_saved_as(name, tmp_path: Path):
    teacher = teacher_of(name)
    teacher.save_pretrained(tmp_path / "teacher")
    loaded = find_teacher(tmp_path / "teacher").load()
    assert type(loaded) is type(teacher)
    assert loaded.dtype == torch.float64
    assert torch.equal(logits_of(loaded), logits_of(teacher))


def test_a_teacher_without_a_head_stays_one(tmp_path: Path):
    AutoModel.from_config(BertConfig(vocab_size=40, hidden_size=8, num_attention_heads=2)).save_pretrained(tmp_path)
    assert type(find_teacher(tmp_path).load()).__name__ == "BertModel"
    assert type(find_teacher(tmp_path).load(AutoModelForMaskedLM)).__name__ == "BertForMaskedLM"


def test_the_final_revision_of_a_trainers_folder_is_the_teacher(tmp_path: Path):
    folder = save_teacher_run(tmp_path / "run")
    found = find_teacher(str(folder))
    assert found.revision.name == "checkpoint-30"
    assert found.folder == folder / "checkpoint-30"
    origin = found.named_in(make_student(found.load(), StudentCut(layers="first:1")).origin, data="64 examples")
    assert origin.commit == content_hash(folder / "checkpoint-30")
    assert (origin.revision, origin.data) == (None, "64 examples")


def test_what_cannot_be_cut_is_refused_before_its_weights_are_read(tmp_path: Path):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes, image_size=8, patch_size=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'vit' model"):
        find_teacher(tmp_path).load()


def test_an_architecture_that_transformers_does_not_have_is_refused_with_those_it_has():
    config = BertConfig()
    config.architectures = ["BertForNothing"]
    with pytest.raises(ValueError, match=r"'BertForNothing'.*BertForMaskedLM"):
        class_of(config)
    with pytest.raises(ValueError, match="names the architecture None"):
        class_of(BertConfig())
