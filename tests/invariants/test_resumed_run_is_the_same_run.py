"""Invariant 3: a run that was killed and resumed ends with bitwise the weights of one that was not."""

from __future__ import annotations

import killed_seq2seq
import pytest
import torch
from builders import save_teacher_run
from killed_run import make_trainer, whole_and_resumed

from hf_distill.training.distill_state import DistillState, resume_folder

FIXED = {"name": "n_shot", "steps": 5}
ADAPTIVE = {"name": "adaptive", "metric": "accuracy", "level": 2.0, "max_stage_steps": 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("curriculum", "step"), [(FIXED, 7), (FIXED, 11), (ADAPTIVE, 6), (ADAPTIVE, 14)], ids=lambda value: str(value)[:20]
)
def test_a_killed_run_resumes_bitwise_across_a_switch(tmp_path, curriculum, step):
    undisturbed, resumed = whole_and_resumed(tmp_path, curriculum, step)
    assert resumed.distillation.plan.switches == undisturbed.distillation.plan.switches
    assert len(resumed.distillation.plan.switches) == 2
    ours, theirs = resumed.model.state_dict(), undisturbed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 11])
def test_a_killed_run_that_generates_in_between_resumes_bitwise(tmp_path, step):
    undisturbed, resumed = killed_seq2seq.whole_and_resumed(tmp_path, step)
    ours, theirs = resumed.model.state_dict(), undisturbed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    logs = [[entry for entry in t.state.log_history if "eval_sum" in entry] for t in (undisturbed, resumed)]
    assert [entry["eval_sum"] for entry in logs[0]] == [entry["eval_sum"] for entry in logs[1]]
    assert len(logs[0]) == 7


@pytest.mark.slow
def test_resuming_against_a_teacher_that_moved_names_both_commits(tmp_path):
    teacher = save_teacher_run(tmp_path / "teacher")
    trainer = make_trainer(tmp_path / "run", teacher, FIXED, None)
    trainer.train()
    save_teacher_run(tmp_path / "other", steps=(11, 20, 30))
    (tmp_path / "other" / "checkpoint-11").rename(tmp_path / "other" / "checkpoint-10")
    moved = make_trainer(tmp_path / "run", tmp_path / "other", FIXED, None)
    before = DistillState.load(tmp_path / "run" / "checkpoint-16").revisions[0]["commit"]
    with pytest.raises(ValueError, match=f"checkpoint-10.*{before}.*{moved.teacher.revisions[0].commit}"):
        moved.train(resume_from_checkpoint=True)


def test_resuming_with_another_curriculum_is_refused(tmp_path):
    teacher = save_teacher_run(tmp_path / "teacher")
    make_trainer(tmp_path / "run", teacher, FIXED, None).train()
    with pytest.raises(ValueError, match="curriculum"):
        make_trainer(tmp_path / "run", teacher, {"name": "one_shot"}, None).train(resume_from_checkpoint=True)


@pytest.mark.slow
def test_a_half_written_checkpoint_is_passed_over_by_resume(tmp_path):
    teacher = save_teacher_run(tmp_path / "teacher")
    make_trainer(tmp_path / "run", teacher, FIXED, None).train()
    newest = tmp_path / "run" / "checkpoint-16"
    (newest / "trainer_state.json").unlink()
    trainer = make_trainer(tmp_path / "run", teacher, FIXED, None)
    assert resume_folder(True, tmp_path / "run") == tmp_path / "run" / "checkpoint-15"
    with pytest.raises(ValueError, match="cannot resume from"):
        trainer.train(resume_from_checkpoint=str(newest))
