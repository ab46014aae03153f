from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_recipes import SGD, parity_recipe, untaught

from hf_distill.pipeline.workspace import RECIPE_FILE, REVISIONS_FILE, Workspace, differences
from hf_distill.recipe.recipe import Recipe

REVISIONS = [{"name": "step10", "commit": "a" * 40}, {"name": "step20", "commit": "b" * 40}]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained(root: Path) -> Path:
    (root / "students" / "labels" / "seed-0" / "checkpoint-4").mkdir(parents=True)
    return root


def test_everything_lies_under_the_output_dir(tmp_path):
    workspace = Workspace(tmp_path / "run")
    folders = (workspace.cache, workspace.teacher, workspace.student("two_shot", 3))
    assert all(folder.is_relative_to(tmp_path / "run") for folder in folders)
    assert workspace.student("two_shot", 3) != workspace.student("two_shot", 4)
    assert workspace.student("../../escaped", 0).resolve().is_relative_to(tmp_path / "run" / "students")


def test_an_empty_folder_is_taken_and_its_recipe_kept(tmp_path):
    recipe = parity_recipe(tmp_path)
    assert Workspace(tmp_path).claim(recipe, write=True) is False
    assert (tmp_path / RECIPE_FILE).read_text() == recipe.to_yaml()
    assert Workspace(tmp_path).claim(recipe, write=True) is True


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_way_is_named_and_kept(tmp_path, place):
    (tmp_path / "file").write_text("a file")
    folder = tmp_path / place
    with pytest.raises(ValueError, match=r"^output_dir: .*file is a file; expected a folder"):
        Workspace(folder).claim(parity_recipe(folder), write=True)
    assert (tmp_path / "file").read_text() == "a file"


def test_a_place_where_nothing_can_be_written_is_named():
    with pytest.raises(ValueError, match=r"^output_dir: nothing can be written to /proc/nothing"):
        Workspace(Path("/proc/nothing")).claim(parity_recipe(Path("/proc/nothing")), write=True)


def test_a_teacher_that_left_no_checkpoint_is_not_taken_for_another_recipes(tmp_path):
    Workspace(tmp_path).claim(parity_recipe(tmp_path), write=True)
    Workspace(tmp_path).teacher.mkdir()
    (Workspace(tmp_path).teacher / "finished.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        Workspace(tmp_path).claim(parity_recipe(tmp_path, seeds=[5]), write=True)


def test_only_the_writing_process_writes(tmp_path):
    folder = tmp_path / "run"
    assert Workspace(folder).claim(parity_recipe(folder), write=False) is False
    assert not folder.exists()


def test_a_run_that_was_moved_or_renamed_is_still_the_same_run(tmp_path):
    Workspace(tmp_path).claim(parity_recipe(tmp_path / "elsewhere", name="other"), write=True)
    trained(tmp_path)
    assert Workspace(tmp_path).claim(parity_recipe(tmp_path, report={"title": "new"}), write=True) is True


def test_a_folder_with_another_recipes_students_is_refused_and_kept(tmp_path):
    Workspace(tmp_path).claim(parity_recipe(tmp_path), write=True)
    trained(tmp_path)
    (tmp_path / "students" / "labels" / "seed-0" / "model.safetensors").write_bytes(b"weights")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run of another recipe.*nothing was changed.*--set output_dir="):
        Workspace(tmp_path).claim(parity_recipe(tmp_path, seeds=[7]), write=True)
    assert contents(tmp_path) == before


def test_more_seeds_and_curricula_go_on_with_what_is_there(tmp_path):
    few = parity_recipe(tmp_path, seeds=[3], compare={"labels": {}})
    Workspace(tmp_path).claim(few, write=True)
    trained(tmp_path)
    more = parity_recipe(tmp_path, seeds=[3, 1], compare={"labels": {}, "one_shot": {}})
    assert Workspace(tmp_path).claim(more, write=True) is True
    assert Recipe.load(tmp_path / RECIPE_FILE) == more
    for fewer in (few, parity_recipe(tmp_path, seeds=[1, 3, 4], compare={"labels": {}, "one_shot": {}})):
        with pytest.raises(ValueError, match="which differs in"):
            Workspace(tmp_path).claim(fewer, write=True)
    changed = parity_recipe(tmp_path, seeds=[3, 1], compare={"labels": {"label_mix": 1.0}, "one_shot": {}})
    with pytest.raises(ValueError, match=r"which differs in compare\.labels"):
        Workspace(tmp_path).claim(changed, write=True)


def test_what_makes_it_another_recipe_is_named(tmp_path):
    Workspace(tmp_path).claim(parity_recipe(tmp_path), write=True)
    trained(tmp_path)
    changed = parity_recipe(tmp_path, seeds=[7], level=None, training={**SGD, "max_steps": 81, "save_steps": 40})
    with pytest.raises(ValueError, match=r"which differs in training\.max_steps, seeds, level; nothing was changed"):
        Workspace(tmp_path).claim(changed, write=True)


def test_differences_are_paths_and_tell_what_a_fingerprint_tells():
    one = {"a": {"x": 1, "y": [1, 2]}, "same": None}
    assert differences(one, {"a": {"x": 1.0, "y": [1, 2, 3]}, "same": None}) == ["a.x", "a.y"]
    assert differences(one, {"a": None, "b": 3}) == ["a", "b"]
    assert differences(one, one) == []


def test_a_recipe_that_failed_its_checks_can_be_mended_in_place(tmp_path):
    Workspace(tmp_path).claim(parity_recipe(tmp_path), write=True)
    mended = parity_recipe(tmp_path, seeds=[7])
    assert Workspace(tmp_path).claim(mended, write=True) is False
    assert (tmp_path / RECIPE_FILE).read_text() == mended.to_yaml()


@pytest.mark.parametrize(
    "name", ["thesis.tex", "checkpoint-4/model.safetensors", "students/labels/seed-0/checkpoint-4/a"]
)
def test_a_folder_with_foreign_files_is_refused_and_kept(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("years of work")
    with pytest.raises(ValueError, match="is not empty, but holds no hf_distill run; choose another folder"):
        Workspace(tmp_path).claim(untaught(tmp_path), write=True)
    assert contents(tmp_path) == {name: b"years of work"}


def test_the_teachers_revisions_are_noted_and_may_change_before_any_student(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.pin_teacher(REVISIONS, write=False)
    assert not (tmp_path / REVISIONS_FILE).exists()
    workspace.pin_teacher(REVISIONS[:1], write=True)
    workspace.pin_teacher(REVISIONS, write=True)
    assert json.loads((tmp_path / REVISIONS_FILE).read_text()) == REVISIONS


@pytest.mark.parametrize("moved", ["commit", "added", "gone"])
def test_a_teacher_that_changed_under_its_students_is_refused(tmp_path, moved):
    workspace = Workspace(trained(tmp_path))
    workspace.pin_teacher(REVISIONS, write=True)
    workspace.pin_teacher(REVISIONS, write=True)
    now = {
        "commit": [REVISIONS[0], {"name": "step20", "commit": "c" * 40}],
        "added": [*REVISIONS, {"name": "step30", "commit": "c" * 40}],
        "gone": REVISIONS[:1],
    }[moved]
    named = {"commit": rf"step20 \({'b' * 40}\).*step20 \({'c' * 40}\)", "added": "step30", "gone": "step20"}[moved]
    with pytest.raises(ValueError, match=rf"teacher has changed since students .* learned from it.*{named}"):
        workspace.pin_teacher(now, write=True)
    assert json.loads((tmp_path / REVISIONS_FILE).read_text()) == REVISIONS


def test_training_is_told_from_preparation(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.claim(parity_recipe(tmp_path), write=True)
    workspace.cache.mkdir()
    assert not workspace.holds_training()
    (workspace.teacher / "checkpoint-20").mkdir(parents=True)
    assert workspace.holds_training()
