"""What may be passed as a teacher, and that nothing is copied on the way."""

from __future__ import annotations

import pytest
from builders import save_teacher_run, tiny_model

from hf_distill.teachers import LiveTeacher, TeacherSequence
from hf_distill.teachers.as_teacher import as_teacher


def test_no_teacher_stays_none():
    assert as_teacher(None) is None


def test_a_teacher_source_is_taken_as_it_is():
    source = LiveTeacher(tiny_model("classification"))
    assert as_teacher(source) is source


def test_a_loaded_model_is_wrapped_without_a_copy_and_frozen():
    model = tiny_model("classification")
    source = as_teacher(model)
    assert isinstance(source, LiveTeacher)
    assert source.model is model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("form", [str, lambda folder: folder], ids=["text", "path"])
def test_a_folder_of_checkpoints_becomes_a_sequence(tmp_path, form):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    source = as_teacher(form(folder))
    assert isinstance(source, TeacherSequence)
    assert [revision.step for revision in source.revisions] == [10, 20]


def test_a_list_becomes_a_sequence_in_its_order(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    source = as_teacher([str(folder / "checkpoint-20"), str(folder / "checkpoint-10")])
    assert isinstance(source, TeacherSequence)
    assert [revision.name for revision in source.revisions] == ["checkpoint-20", "checkpoint-10"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        as_teacher(str(tmp_path / "nowhere"))
