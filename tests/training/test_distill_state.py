"""What a checkpoint remembers, and the refusal to resume something else."""

from __future__ import annotations

import json

import pytest

from hf_distill.training.distill_state import STATE_NAME, DistillState

CURRICULUM = {"name": "two_shot", "revision": "step10", "steps": 5}


def revision(name: str, commit: str) -> dict:
    return {"name": name, "step": None, "source": "org/teacher", "revision": name, "commit": commit}


def state(**overrides) -> DistillState:
    values = {"curriculum": CURRICULUM, "revisions": [revision("a", "1" * 40)], "switches": [5], "stalls": [0.5]}
    return DistillState(**{**values, **overrides})


def test_what_is_saved_is_what_is_loaded(tmp_path):
    saved = state(chosen="a", seconds=12.5)
    saved.save(tmp_path)
    assert DistillState.load(tmp_path) == saved


def test_saving_leaves_no_other_file(tmp_path):
    state().save(tmp_path)
    state(switches=[7]).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_NAME]
    assert DistillState.load(tmp_path).switches == [7]


def test_a_checkpoint_of_another_trainer_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path.name} has no {STATE_NAME}.*Resume from another checkpoint"):
        DistillState.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b'{"curriculum": {', b"", b"[]", b"3", b'{"unknown": 1}', b"{}", b"\xff\xfe\x00"], ids=repr
)
def test_a_damaged_state_says_which_file(tmp_path, content):
    (tmp_path / STATE_NAME).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{STATE_NAME} cannot be read.*resume from another checkpoint"):
        DistillState.load(tmp_path)


def test_the_same_run_may_resume():
    assert state().check_same_run(dict(CURRICULUM), [revision("a", "1" * 40)], folder="run") is None


def test_a_list_written_as_a_tuple_is_the_same_curriculum(tmp_path):
    spec = {"name": "n_shot", "revisions": ("step10", "step20")}
    state(curriculum=spec).save(tmp_path)
    loaded = DistillState.load(tmp_path)
    assert loaded.check_same_run(spec, loaded.revisions, folder=tmp_path) is None


def test_another_curriculum_is_refused_and_both_are_named():
    with pytest.raises(
        ValueError, match=r"run was trained with the curriculum .*'steps': 5.*this run has .*'steps': 6"
    ):
        state().check_same_run({**CURRICULUM, "steps": 6}, [revision("a", "1" * 40)], folder="run")


def test_another_number_of_revisions_is_refused():
    now = [revision("a", "1" * 40), revision("b", "2" * 40)]
    with pytest.raises(ValueError, match=r"the teacher revisions \['a'\], now they are \['a', 'b'\]"):
        state().check_same_run(CURRICULUM, now, folder="run")


def test_a_moved_revision_is_refused_and_both_commits_are_named():
    with pytest.raises(ValueError, match=rf"'a' of org/teacher has moved.*{'1' * 40}.*{'2' * 40}.*Pin the old commit"):
        state().check_same_run(CURRICULUM, [revision("a", "2" * 40)], folder="run")


def test_a_renamed_revision_with_the_same_commit_is_the_same():
    assert state().check_same_run(CURRICULUM, [revision("main", "1" * 40)], folder="run") is None


def test_the_file_is_json_that_people_can_read(tmp_path):
    state().save(tmp_path)
    assert json.loads((tmp_path / STATE_NAME).read_text(encoding="utf-8"))["curriculum"] == CURRICULUM
