from __future__ import annotations

from pathlib import Path

import pytest
from teacher_folders import cut, save_teacher, save_trainer_checkpoint

from hf_distill.teachers.folder_revisions import resolve_folder
from hf_distill.teachers.revision_spec import Revision, parse_spec


def resolve(text: str) -> list[Revision]:
    [spec] = parse_spec(text)
    return resolve_folder(spec)


def test_checkpoints_come_by_step_with_the_final_model_last(tmp_path: Path) -> None:
    for step in (100, 20):
        save_trainer_checkpoint(tmp_path, step)
    save_teacher(tmp_path, seed=7)
    found = resolve(str(tmp_path))
    assert [(revision.name, revision.step) for revision in found] == [
        ("checkpoint-20", 20),
        ("checkpoint-100", 100),
        ("final", None),
    ]
    assert len({revision.commit for revision in found}) == 3


def test_half_written_checkpoint_is_refused_and_never_left_out(tmp_path: Path) -> None:
    for step in (20, 100):
        save_trainer_checkpoint(tmp_path, step)
    cut(tmp_path / "checkpoint-20" / "model.safetensors", 1000)
    with pytest.raises(ValueError, match=r"checkpoint-20 in .* is not a whole checkpoint.*choose others with"):
        resolve(str(tmp_path))
    assert [revision.step for revision in resolve(f"{tmp_path}@checkpoint-100")] == [100]


def test_folder_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    save_trainer_checkpoint(tmp_path, 20)
    with pytest.raises(ValueError, match=r"has no folder 'checkpoint-3\*'\. There: checkpoint-20"):
        resolve(f"{tmp_path}@checkpoint-3*")
