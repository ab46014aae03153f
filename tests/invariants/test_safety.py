"""Invariant 11: safetensors only, no code of a repository, no secrets in what is written, no half-written files."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from builders import distill_trainer, save_teacher_run, tiny_model
from teacher_folders import save_pickled_teacher

from hf_distill import TeacherSequence

TOKEN = "hf_" + "a1B2" * 8
TRAINERS_OWN = {"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with checkpoints, its teacher opened with a token, and what was logged."""
    folder = tmp_path_factory.mktemp("safety")
    teacher = TeacherSequence(save_teacher_run(folder / "teacher", steps=(10, 20)), token=TOKEN)
    trainer = distill_trainer(
        folder / "run",
        teacher=teacher,
        curriculum={"name": "n_shot"},
        save_strategy="steps",
        save_steps=2,
        processing_class=None,
    )
    trainer.train()
    trainer.save_model()
    return trainer, folder / "run"


# ---- weights ----


def test_pickled_weights_are_refused_unless_asked_for_by_name(tmp_path):
    folder = save_pickled_teacher(tmp_path / "old")
    with pytest.raises(ValueError, match=r"pickle|safetensors"):
        distill_trainer(tmp_path / "run", teacher=str(folder))
    assert len(TeacherSequence(folder, allow_pickled_weights=True).revisions) == 1


def test_no_pickle_is_opened_to_find_out_that_it_is_one(tmp_path):
    """Unpickling runs code: the refusal must come from the file's name."""
    folder = save_pickled_teacher(tmp_path / "old")
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (marker.write_text, ("unpickled",))

    torch.save({"weight": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickle|safetensors"):
        TeacherSequence(folder)
    assert not marker.exists()


def test_the_student_is_written_as_safetensors_only(run):
    _, folder = run
    pickles = {path.name for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")}
    assert pickles <= TRAINERS_OWN
    assert (folder / "model.safetensors").exists()


# ---- code ----


def test_code_that_a_teacher_brings_is_not_run(tmp_path):
    folder, marker = tmp_path / "teacher", tmp_path / "ran"
    tiny_model("classification").save_pretrained(folder)
    code = f"open({str(marker)!r}, 'w').close()\nfrom transformers import BertConfig as Config\n"
    (folder / "theirs.py").write_text(code, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.update(model_type="theirs", auto_map={"AutoConfig": "theirs.Config"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"trust_remote_code|custom code"):
        distill_trainer(tmp_path / "run", teacher=str(folder))
    assert not marker.exists()


# ---- secrets ----


def test_no_token_reaches_a_file_of_the_run(run):
    _, folder = run
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path.name for path in files if TOKEN.encode() in path.read_bytes()]


def test_no_token_reaches_the_manifest_the_state_or_a_log(run, caplog, tmp_path):
    trainer, _ = run
    with caplog.at_level(logging.DEBUG):
        TeacherSequence(save_teacher_run(tmp_path, steps=(10,)), token=TOKEN)
    shown = [trainer.teacher.manifest(), trainer.distill_state(), trainer.state.log_history, caplog.text]
    assert not [one for one in shown if TOKEN in str(one)]


def test_no_token_reaches_an_error(tmp_path):
    with pytest.raises(ValueError, match="org/nothing") as refused:
        TeacherSequence("org/nothing@step1", token=TOKEN, cache_dir=str(tmp_path))
    error: BaseException | None = refused.value
    while error is not None:
        assert TOKEN not in str(error)
        error = error.__cause__ or error.__context__


# ---- files ----


def test_no_temporary_file_is_left(run):
    _, folder = run
    assert not [path.name for path in folder.rglob("*") if ".tmp" in path.name or path.name.startswith(".")]


def test_a_checkpoint_is_whole_only_once_it_has_our_state(run):
    """The Trainer writes trainer_state.json last; what makes a checkpoint resumable must be there before it."""
    _, folder = run
    for step in (2, 4):
        checkpoint = folder / f"checkpoint-{step}"
        ours, last = ((checkpoint / name).stat().st_mtime_ns for name in ("distill_state.json", "trainer_state.json"))
        assert ours <= last


def test_every_revision_is_pinned_by_its_content(run):
    trainer, folder = run
    state = json.loads((folder / "checkpoint-4" / "distill_state.json").read_text(encoding="utf-8"))
    commits = [revision["commit"] for revision in state["revisions"]]
    assert commits == [revision.commit for revision in trainer.teacher.revisions]
    assert all(commit.startswith("sha256:") and len(commit) == 71 for commit in commits)
