"""What happens at a switch: the optimizer's state, the learning-rate schedule, the held-out points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_config, distill_trainer, examples, save_teacher_run
from transformers import TrainerCallback, get_scheduler

from hf_distill import ProgressiveDistillTrainer
from hf_distill.curricula import Plan, Stage
from hf_distill.teachers import TeacherSequence
from hf_distill.training.switching import held_out_points, reset_optimizer, restarting_schedule


def plan_of(*switches: int, rule=None) -> Plan:
    stages = tuple(Stage(name=str(index), terms=()) for index in range(len(switches) + 1))
    return Plan(stages=stages, switches=list(switches), rule=rule)


def optimizer_of(learning_rate: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)


def rates(schedule, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return seen


def of_two_revisions(folder: Path, **settings: Any) -> ProgressiveDistillTrainer:
    teacher = save_teacher_run(folder / "teacher", steps=(10, 20))
    return distill_trainer(folder / "run", teacher=str(teacher), **settings)


class Recorder(TrainerCallback):
    """Counts the entries of the optimizer's state at the start of each step, after the switch."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.rates: list[float] = []

    def on_step_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs) -> None:
        self.entries.append(len(optimizer.state))
        self.rates.append(lr_scheduler.get_last_lr()[0])


# ---- learning-rate schedules ----


def test_each_stage_gets_a_whole_schedule(tmp_path):
    config = distill_config(tmp_path, lr_scheduler_type="linear", learning_rate=0.5)
    schedule = restarting_schedule(config, optimizer_of(0.5), plan_of(4), 6)
    assert rates(schedule, 6) == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.5, 0.25])


def test_warmup_given_as_a_share_is_a_share_of_the_stage(tmp_path):
    config = distill_config(tmp_path, lr_scheduler_type="constant_with_warmup", warmup_steps=0.5)
    schedule = restarting_schedule(config, optimizer_of(), plan_of(4), 6)
    assert rates(schedule, 6) == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.0, 1.0])


def test_one_stage_is_the_usual_schedule(tmp_path):
    config = distill_config(tmp_path, lr_scheduler_type="cosine")
    usual = get_scheduler("cosine", optimizer_of(), num_warmup_steps=0, num_training_steps=7)
    assert rates(restarting_schedule(config, optimizer_of(), plan_of(), 7), 7) == pytest.approx(rates(usual, 7))


def test_a_resumed_schedule_is_the_same_schedule(tmp_path):
    config = distill_config(tmp_path, lr_scheduler_type="linear")
    whole, resumed = (restarting_schedule(config, optimizer_of(), plan_of(4), 6) for _ in range(2))
    expected = rates(whole, 6)
    rates(resumed, 3)
    state, again = resumed.state_dict(), restarting_schedule(config, optimizer_of(), plan_of(4), 6)
    again.load_state_dict(state)
    again.optimizer.param_groups[0]["lr"] = state["_last_lr"][0]
    assert rates(again, 3) == pytest.approx(expected[3:])


def test_the_step_after_the_last_one_has_a_rate(tmp_path):
    schedule = restarting_schedule(distill_config(tmp_path), optimizer_of(), plan_of(2), 4)
    assert len(rates(schedule, 5)) == 5


def test_stages_of_unknown_length_cannot_restart(tmp_path):
    with pytest.raises(ValueError, match=r"an adaptive curriculum has none. Use reset_optimizer"):
        restarting_schedule(distill_config(tmp_path), optimizer_of(), plan_of(rule=object()), 6)


def test_a_schedule_without_a_closed_form_cannot_restart(tmp_path):
    config = distill_config(
        tmp_path,
        lr_scheduler_type="reduce_lr_on_plateau",
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="loss",
    )
    with pytest.raises(ValueError, match=r"does not know the schedule .*; use reset_optimizer"):
        restarting_schedule(config, optimizer_of(), plan_of(2), 6)


# ---- the optimizer ----


def test_a_reset_forgets_moments_and_keeps_groups():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.25)
    parameter.sum().backward()
    optimizer.step()
    reset_optimizer(optimizer)
    fresh = torch.nn.Parameter(parameter.detach().clone())
    other = torch.optim.AdamW([fresh], lr=0.25)
    fresh.sum().backward()
    for one in (optimizer, other):
        one.step()
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert torch.equal(parameter, fresh)


def recorded(folder: Path, **settings: Any) -> Recorder:
    """Train four steps with a switch in their middle; return what was seen at the start of each."""
    recorder, curriculum = Recorder(), {"name": "two_shot", "revision": "checkpoint-10", "steps": 2}
    trainer = of_two_revisions(folder, curriculum=curriculum, **settings)
    trainer.add_callback(recorder)
    trainer.train()
    return recorder


@pytest.mark.parametrize(("at_switch", "at_the_switch"), [("continue", "kept"), ("reset_optimizer", "forgotten")])
def test_the_optimizer_runs_through_a_switch_unless_asked_to_forget(tmp_path, at_switch, at_the_switch):
    before, at, after = recorded(tmp_path, at_switch=at_switch, optim="adamw_torch").entries[1:]
    assert before == after > 0
    assert at == (before if at_the_switch == "kept" else 0)


def test_restart_starts_the_rate_anew_at_the_switch(tmp_path):
    recorder = recorded(tmp_path, at_switch="restart", lr_scheduler_type="linear", optim="adamw_torch")
    assert recorder.rates == pytest.approx([0.1, 0.05, 0.1, 0.05])
    assert recorder.entries[2] == 0


# ---- held-out points ----


def test_held_out_points_are_evaluations_only_without_their_prefix():
    history = [
        {"loss": 2.0, "step": 1},
        {"eval_loss": 1.5, "eval_accuracy": 0.5, "epoch": 1.0, "step": 2},
        {"train_runtime": 3.0, "step": 2},
    ]
    assert held_out_points(history) == [{"step": 2, "loss": 1.5, "accuracy": 0.5}]
    assert held_out_points([]) == []


ADAPTIVE = {"name": "adaptive", "metric": "loss", "greater_is_better": False, "level": 100.0}


@pytest.fixture
def held_out() -> dict[str, Any]:
    return {"eval_dataset": examples("classification", seed=1), "eval_strategy": "steps"}


def test_an_adaptive_switch_is_recorded_at_its_evaluation(tmp_path, held_out):
    trainer = of_two_revisions(tmp_path, curriculum=ADAPTIVE, eval_steps=2, **held_out)
    trainer.train()
    assert trainer.distillation.plan.switches == [2]


def test_an_evaluation_outside_training_moves_no_stage(tmp_path, held_out):
    trainer = of_two_revisions(tmp_path, curriculum=ADAPTIVE, eval_steps=5, max_steps=2, **held_out)
    trainer.train()
    plan = trainer.distillation.plan
    plan.switches.clear()
    trainer.evaluate()
    assert plan.switches == []


def test_several_held_out_sets_are_one_point_and_the_rule_waits_for_all_of_them(tmp_path):
    teacher = TeacherSequence(save_teacher_run(tmp_path / "teacher"))
    trainer = distill_trainer(
        tmp_path / "run",
        teacher=teacher,
        eval_dataset={"near": examples("classification", seed=3), "far": examples("classification", seed=4)},
        curriculum={"name": "adaptive", "metric": "near_loss", "level": 100.0, "greater_is_better": False},
        eval_strategy="steps",
        eval_steps=1,
        max_steps=4,
    )
    trainer.train()
    points = held_out_points(trainer.state.log_history)
    assert [point["step"] for point in points] == [1, 2, 3, 4]
    assert all({"near_loss", "far_loss"} <= set(point) for point in points)
    assert trainer.distillation.plan.switches == [1, 2]


def test_a_metric_that_no_held_out_set_has_is_an_error_and_not_a_run_that_never_switches(tmp_path):
    trainer = distill_trainer(
        tmp_path / "run",
        teacher=TeacherSequence(save_teacher_run(tmp_path / "teacher")),
        eval_dataset={"near": examples("classification", seed=3)},
        curriculum={"name": "adaptive", "metric": "loss", "level": 100.0, "greater_is_better": False},
        eval_strategy="steps",
        eval_steps=1,
    )
    with pytest.raises(ValueError, match=r"no held-out metric 'loss'.*near_loss"):
        trainer.train()
