from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from teacher_folders import (
    cache_model,
    commit_of,
    cut,
    save_pickled_teacher,
    save_teacher,
    save_trainer_checkpoint,
)
from transformers import AutoModelForSequenceClassification

from hf_distill.teachers.revisions import check_unchanged, folder_of, resolve_revisions
from hf_distill.teachers.weight_files import content_hash


@pytest.fixture
def output_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    for step in (1000, 200, 30):
        save_trainer_checkpoint(folder, step)
    return folder


def names(found: list) -> list[str]:
    return [revision.name for revision in found]


def age(folder: Path, seconds: int) -> None:
    for path in folder.glob("*.safetensors"):
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - seconds * 10**9))


def test_checkpoints_are_pinned_in_the_order_of_their_steps(output_dir: Path) -> None:
    found = resolve_revisions(output_dir)
    assert names(found) == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]
    assert [revision.step for revision in found] == [30, 200, 1000]
    for revision in found:
        assert revision.folder == output_dir / revision.name
        assert revision.commit == content_hash(revision.folder)
        assert (revision.source, revision.revision) == (str(output_dir), None)
    assert resolve_revisions(str(output_dir)) == found


def test_final_model_comes_last_where_it_adds_something(output_dir: Path) -> None:
    save_teacher(output_dir, seed=5)
    found = resolve_revisions(output_dir)
    assert names(found)[-1] == "final"
    assert found[-1].step is None
    (output_dir / "trainer_state.json").write_text(json.dumps({"global_step": 1100}))
    assert resolve_revisions(output_dir)[-1].step == 1100


def test_final_model_like_the_last_checkpoint_is_not_taught_twice(output_dir: Path) -> None:
    save_teacher(output_dir, seed=1000)
    config = json.loads((output_dir / "config.json").read_text())
    (output_dir / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert names(resolve_revisions(output_dir))[-1] == "checkpoint-1000"


def test_best_model_loaded_at_the_end_is_the_final_teacher(output_dir: Path) -> None:
    save_teacher(output_dir, seed=30)
    (output_dir / "trainer_state.json").write_text(json.dumps({"global_step": 1000}))
    last = resolve_revisions(output_dir)[-1]
    assert (last.name, last.step) == ("final", None)


@pytest.mark.parametrize("sign", ["time", "step"])
def test_final_model_of_an_earlier_run_is_left_out_with_a_warning(
    sign: str, output_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_teacher(output_dir, seed=5)
    if sign == "time":
        age(output_dir, 60)
    else:
        (output_dir / "trainer_state.json").write_text(json.dumps({"global_step": 100}))
    with caplog.at_level(logging.WARNING):
        assert names(resolve_revisions(output_dir))[-1] == "checkpoint-1000"
    assert "older than checkpoint-1000" in caplog.text


def test_one_model_folder_is_one_revision(tmp_path: Path, output_dir: Path) -> None:
    [revision] = resolve_revisions(save_teacher(tmp_path / "bert-L4"))
    assert (revision.name, revision.step) == ("bert-L4", None)
    [checkpoint] = resolve_revisions(output_dir / "checkpoint-200")
    assert (checkpoint.name, checkpoint.step) == ("checkpoint-200", 200)


def test_sub_folders_can_be_chosen_by_name_and_pattern(output_dir: Path) -> None:
    save_teacher(output_dir, seed=5)
    assert names(resolve_revisions(f"{output_dir}@checkpoint-200,final")) == ["checkpoint-200", "final"]
    assert names(resolve_revisions(f"{output_dir}:checkpoint-*0")) == [
        "checkpoint-30",
        "checkpoint-200",
        "checkpoint-1000",
    ]
    save_teacher(output_dir / "exports" / "step7")
    [deep] = resolve_revisions(f"{output_dir}@exports/step7")
    assert (deep.name, deep.step) == ("exports/step7", 7)


@pytest.mark.parametrize("asked", ["checkpoint-210", "step*"])
def test_missing_checkpoint_is_an_error_that_lists_those_that_exist(asked: str, output_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder '.*'\. There: .*checkpoint-200") as caught:
        resolve_revisions(f"{output_dir}@{asked}")
    if asked == "checkpoint-210":
        assert "There: checkpoint-200, checkpoint-30" in str(caught.value)


def test_every_half_written_checkpoint_is_refused_by_name(output_dir: Path) -> None:
    cut(output_dir / "checkpoint-200" / "model.safetensors", 4000)
    (output_dir / "checkpoint-1000" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"checkpoint-200 in .* is not a whole checkpoint: .*cut short") as caught:
        resolve_revisions(output_dir)
    assert "checkpoint-1000" in str(caught.value)
    assert "config.json is missing" in str(caught.value)
    assert "checkpoint-30 " not in str(caught.value)
    assert names(resolve_revisions(f"{output_dir}@checkpoint-30")) == ["checkpoint-30"]


def test_half_written_final_model_is_refused(output_dir: Path) -> None:
    save_teacher(output_dir, seed=5)
    cut(output_dir / "model.safetensors", 4000)
    with pytest.raises(ValueError, match=r"the final model in .* is not whole: model\.safetensors is cut short"):
        resolve_revisions(output_dir)


def test_folder_of_a_run_says_where_the_checkpoints_are(output_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    output_dir.rename(run / "teacher")
    with pytest.raises(ValueError, match=r"neither checkpoint-\* folders.* There are checkpoints in .*run/teacher\."):
        resolve_revisions(run)


def test_folder_without_a_model_says_where_the_models_are(tmp_path: Path) -> None:
    save_teacher(tmp_path / "step100")
    with pytest.raises(ValueError, match=r"neither checkpoint-\* folders nor a whole model.*@step100"):
        resolve_revisions(tmp_path)


def test_pickled_weights_are_refused_unless_asked_for(tmp_path: Path) -> None:
    folder = save_pickled_teacher(tmp_path / "old")
    with pytest.raises(ValueError, match="allow_pickled_weights"):
        resolve_revisions(folder)
    [revision] = resolve_revisions(folder, allow_pickled_weights=True)
    assert folder_of(revision, allow_pickled_weights=True) == folder


def test_list_of_models_keeps_its_order_and_tells_them_apart(tmp_path: Path, output_dir: Path) -> None:
    cache = tmp_path / "cache"
    for step in (40, 20):
        cache_model(cache, f"org/m-step_{step}k", {"main": save_teacher(tmp_path / str(step), seed=step)})
    found = resolve_revisions(["org/m-step_40k", "org/m-step_20k", output_dir / "checkpoint-30"], cache_dir=cache)
    assert names(found) == ["m-step_40k", "m-step_20k", "checkpoint-30"]
    assert [revision.step for revision in found] == [40_000, 20_000, 30]
    braces = resolve_revisions("org/m-step_{20,40}k", cache_dir=cache)
    assert [revision.commit for revision in braces] == [commit_of(f"org/m-step_{step}k@main") for step in (20, 40)]


def test_equal_names_of_two_sources_get_the_source(tmp_path: Path, output_dir: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(output_dir / "checkpoint-30", other / "checkpoint-30")
    found = resolve_revisions([f"{output_dir}@checkpoint-30", other])
    assert names(found) == ["teacher@checkpoint-30", "other@checkpoint-30"]
    assert [revision.step for revision in found] == [30, 30]


def test_same_revision_twice_is_refused(output_dir: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        resolve_revisions([output_dir / "checkpoint-30", output_dir / "checkpoint-30"])


def test_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="empty list"):
        resolve_revisions([])


def test_folder_that_vanished_after_pinning_is_named(output_dir: Path) -> None:
    revision = resolve_revisions(output_dir)[0]
    assert folder_of(revision) == output_dir / "checkpoint-30"
    shutil.rmtree(output_dir / "checkpoint-30")
    with pytest.raises(ValueError, match=r"checkpoint-30 is no whole checkpoint any more: it is not a folder"):
        folder_of(revision)


def test_content_that_changed_since_pinning_is_refused_with_both_hashes(output_dir: Path) -> None:
    revision = resolve_revisions(output_dir)[0]
    check_unchanged(revision)
    save_teacher(output_dir / "checkpoint-30", seed=77)
    with pytest.raises(ValueError, match="changed since it was pinned") as caught:
        check_unchanged(revision)
    assert revision.commit in str(caught.value)
    assert content_hash(output_dir / "checkpoint-30") in str(caught.value)


def test_copy_with_new_times_is_still_the_pinned_content(output_dir: Path) -> None:
    revision = resolve_revisions(output_dir)[0]
    age(output_dir / "checkpoint-30", 3600)
    check_unchanged(revision)
    assert revision.commit == content_hash(output_dir / "checkpoint-30")


def test_resolved_folder_loads_with_transformers(output_dir: Path) -> None:
    folder = folder_of(resolve_revisions(output_dir)[-1])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.hidden_size == 16
