"""Where a run's students went is found by what they are, not by what they were called."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from teacher_folders import save_teacher

from hf_distill.hub.pushed import PUSHED_FILE, Pushed, note_pushed, pushed_as
from hf_distill.teachers.weight_files import content_hash


def test_a_pushed_student_is_found_by_its_content(tmp_path):
    one, other = save_teacher(tmp_path / "one", seed=1), save_teacher(tmp_path / "other", seed=2)
    assert pushed_as(tmp_path, content_hash(one)) is None
    note_pushed(tmp_path, one, Pushed("org/one", "a" * 40))
    assert pushed_as(tmp_path, content_hash(one)) == ("org/one", "a" * 40)
    assert pushed_as(tmp_path, content_hash(other)) is None
    one.rename(tmp_path / "moved")
    assert pushed_as(tmp_path, content_hash(tmp_path / "moved")) == ("org/one", "a" * 40)


def test_another_student_under_the_same_name_takes_it_over(tmp_path):
    one, other = save_teacher(tmp_path / "one", seed=1), save_teacher(tmp_path / "other", seed=2)
    note_pushed(tmp_path, one, Pushed("org/name", "a" * 40))
    note_pushed(tmp_path, one, Pushed("org/second", "b" * 40))
    assert pushed_as(tmp_path, content_hash(one)) == ("org/second", "b" * 40)
    note_pushed(tmp_path, other, Pushed("org/second", "c" * 40))
    assert pushed_as(tmp_path, content_hash(one)) == ("org/name", "a" * 40)
    assert pushed_as(tmp_path, content_hash(other)) == ("org/second", "c" * 40)


def test_an_adapter_alone_is_not_noted(tmp_path):
    (tmp_path / "student").mkdir()
    save_file({"a": torch.zeros(2)}, str(tmp_path / "student" / "adapter_model.safetensors"))
    note_pushed(tmp_path, tmp_path / "student", Pushed("org/adapter", "a" * 40))
    assert not (tmp_path / PUSHED_FILE).exists()


def test_notes_that_cannot_be_read_say_what_to_do(tmp_path):
    (tmp_path / PUSHED_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"pushed\.json is not readable JSON .*; delete it"):
        pushed_as(tmp_path, "sha256:" + "0" * 64)
