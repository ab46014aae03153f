"""Annealing-KD and Continuation-KD: their terms, what their second phase starts from, and resuming in either phase."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import distill_trainer, examples, plan_context, save_teacher_run, tiny_model
from killed_run import make_trainer, whole_and_resumed
from transformers import TrainerCallback

from hf_distill.curricula import CURRICULA, Annealing, Continuation, Plan
from hf_distill.training.stage_best import FILE_NAME

MAX_STEPS, LENGTH = 90, 70


def weights_and_temperatures(plan: Plan, step: int) -> dict[str, tuple[float, float]]:
    """Weight and temperature of each term that counts at a step, by the formula of its objective."""
    progress = step / MAX_STEPS
    return {
        term.objective.formula(): (term.weight_at(progress), term.temperature(progress))
        for term in plan.stage_at(step).terms
        if term.weight_at(progress)
    }


# ---- one is the other with margin 0 and a step ----


@pytest.mark.parametrize("head", ["classification", "regression", "masked_lm", "causal_lm"])
@pytest.mark.parametrize("epochs", [None, 15])
def test_annealing_is_continuation_without_margin_and_with_a_step(head, epochs):
    context = plan_context(10, None, max_steps=MAX_STEPS, head=head)
    annealing = Annealing(tau_max=7, steps=LENGTH, epochs=epochs).plan(context)
    # ψ is a step just before the switch; u = step / max_steps falls between two steps.
    step = Continuation(
        tau_max=7,
        margin=0.0,
        slope=0.0,
        until=(LENGTH - 0.5) / MAX_STEPS,
        full_at=LENGTH / MAX_STEPS,
        epochs=epochs,
    ).plan(context)
    for index in range(MAX_STEPS):
        assert weights_and_temperatures(annealing, index) == weights_and_temperatures(step, index)
    assert annealing.switches == [LENGTH]
    assert len(weights_and_temperatures(annealing, LENGTH - 1)) == 1
    assert len(weights_and_temperatures(annealing, LENGTH)) == 1


def test_annealing_and_its_continuation_train_on_the_same_losses(tmp_path):
    """Phase I is the same run bitwise; phase II differs by the restart only."""
    shared = {"teacher": tiny_model("classification", seed=7), "max_steps": 6, "learning_rate": 0.05}
    annealing = distill_trainer(
        tmp_path / "annealing",
        curriculum={"name": "annealing", "tau_max": 2, "steps": 4},
        eval_dataset=examples("classification", count=4, seed=3),
        eval_strategy="steps",
        eval_steps=4,
        **shared,
    )
    fields = {"tau_max": 2, "margin": 0.0, "slope": 0.0, "until": 3.5 / 6, "full_at": 4 / 6}
    step = distill_trainer(tmp_path / "step", curriculum={"name": "continuation", **fields}, **shared)
    for trainer in (annealing, step):
        trainer.train()
    ours, theirs = (
        [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in (annealing, step)
    )
    assert len(ours) == 6
    # The last student of phase I is its only one evaluated, SGD has no state and the rate is constant.
    assert ours == theirs


def test_continuation_at_its_published_schedule_is_the_published_mixture():
    plan = Continuation(tau_max=10, margin=2.0).plan(plan_context(10, None, max_steps=600))
    (stage,) = plan.stages
    teacher, labels = stage.terms
    assert [term.weight_at(0.0) for term in (teacher, labels)] == [1.0, 0.0]
    assert [term.weight_at(0.5) for term in (teacher, labels)] == pytest.approx([0.625, 0.375])
    assert [term.weight_at(0.7) for term in (teacher, labels)] == [0.0, 1.0]
    assert 1.0 / teacher.temperature(0.66) == pytest.approx(0.7)
    assert teacher.objective.margin == 2.0


def test_a_constant_temperature_of_one_is_plain_mixing():
    """T_max = 1, m = 0 and constant ψ: logits' MSE mixed with labels."""
    plan = Continuation(tau_max=1, margin=0.0, slope=0.0, until=1.0).plan(plan_context(10, None))
    teacher, _ = plan.stages[0].terms
    assert {teacher.temperature(progress / 10) for progress in range(11)} == {1.0}
    assert {teacher.weight_at(progress / 10) for progress in range(11)} == {1.0}


def test_the_default_phases_are_those_of_glue():
    plan = Annealing().plan(plan_context(10, None, max_steps=18))
    assert plan.switches == [14]
    assert [stage.revision for stage in plan.stages] == [1, None]


@pytest.mark.parametrize("curriculum", [Annealing, Continuation])
@pytest.mark.parametrize(
    "fields", [{"objectives": [{"name": "forward_kl"}]}, {"temperature": 2.0}, {"label_mix": 0.5}]
)
def test_a_field_that_would_do_nothing_is_refused(curriculum, fields):
    with pytest.raises(ValueError, match=f"takes no `{next(iter(fields))}`; use one_shot"):
        curriculum(**fields)


@pytest.mark.parametrize(
    ("metric", "given", "expected"),
    [("loss", None, False), ("accuracy", None, True), ("mse", False, False), ("eval_x_loss", None, False)],
)
def test_the_best_student_is_that_of_the_metrics_better_direction(metric, given, expected):
    assert Annealing(metric=metric, greater_is_better=given).best_of_stage.greater_is_better is expected


# ---- the teacher runs only where it counts ----


def test_the_teacher_does_not_run_after_labels_have_taken_over(tmp_path):
    teacher = tiny_model("classification", seed=7)
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(None))
    curriculum = {"name": "continuation", "tau_max": 2, "slope": 0.5, "until": 0.4}
    distill_trainer(tmp_path, teacher=teacher, curriculum=curriculum, max_steps=5).train()
    # u = 0, .2, .4 with the teacher; .6 and .8 without.
    assert len(calls) == 3


# ---- what phase II starts from ----


class Watcher(TrainerCallback):
    """Keeps the student at every evaluation, and at the start of each step its weights, optimizer state and rate."""

    def __init__(self) -> None:
        self.evaluated: dict[int, dict[str, torch.Tensor]] = {}
        self.starts: dict[int, dict[str, torch.Tensor]] = {}
        self.entries: list[int] = []
        self.rates: list[float] = []

    def on_evaluate(self, args, state, control, model=None, **kwargs) -> None:
        self.evaluated[state.global_step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def on_step_begin(self, args, state, control, model=None, optimizer=None, lr_scheduler=None, **kwargs) -> None:
        self.starts[state.global_step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.entries.append(len(optimizer.state))
        self.rates.append(lr_scheduler.get_last_lr()[0])


def annealing_run(folder: Path, **overrides) -> tuple:
    watcher = Watcher()
    values = {
        "teacher": tiny_model("classification", seed=7),
        "eval_dataset": examples("classification", count=6, seed=3),
        "curriculum": {"name": "annealing", "tau_max": 2, "steps": 6},
        "eval_strategy": "steps",
        "eval_steps": 1,
        "optim": "adamw_torch",
        "learning_rate": 0.05,
        "lr_scheduler_type": "linear",
        "max_steps": 9,
    }
    trainer = distill_trainer(folder, **{**values, **overrides})
    trainer.add_callback(watcher)
    return trainer, watcher


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in other)


def test_phase_two_starts_from_the_best_student_instead_of_the_last(tmp_path):
    trainer, watcher = annealing_run(tmp_path)
    trainer.train()
    losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    best = min(range(1, 7), key=losses.get)
    assert best != 6, "the case shows nothing unless an earlier student was better"
    assert same(watcher.starts[6], watcher.evaluated[best])
    assert not same(watcher.starts[6], watcher.evaluated[6])


def test_phase_two_inherits_neither_optimizer_state_nor_rate(tmp_path):
    trainer, watcher = annealing_run(tmp_path)
    trainer.train()
    assert [bool(count) for count in watcher.entries] == [False, *[True] * 5, False, True, True]
    assert watcher.rates == pytest.approx([0.05 * left / 6 for left in range(6, 0, -1)] + [0.05, 0.1 / 3, 0.05 / 3])


def test_a_stage_without_evaluation_is_noticed_before_training_it(tmp_path):
    for settings in (
        {"eval_steps": 7},
        {"eval_delay": 7},
        {"eval_strategy": "epoch", "gradient_accumulation_steps": 9},
    ):
        trainer, watcher = annealing_run(tmp_path, train_dataset=examples("classification", count=400), **settings)
        with pytest.raises(ValueError, match=r"steps 0 to 6 ends before its first evaluation.*lower eval_steps"):
            trainer.train()
        assert watcher.starts == {}


def test_a_run_without_evaluation_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'annealing'.*eval_strategy is 'no'"):
        annealing_run(tmp_path, eval_strategy="no")


@pytest.mark.parametrize("settings", [{"eval_steps": 6}, {"eval_steps": 4, "eval_delay": 2}, {"eval_steps": 3}])
def test_an_evaluation_just_in_time_is_accepted(tmp_path, settings):
    trainer, _ = annealing_run(tmp_path, **settings)
    trainer.train()
    assert trainer.state.global_step == 9


def test_an_unknown_metric_is_noticed_at_the_first_evaluation(tmp_path):
    trainer, watcher = annealing_run(tmp_path, curriculum={"name": "annealing", "steps": 6, "metric": "acuracy"})
    with pytest.raises(ValueError, match=r"curriculum\.metric: no held-out metric 'acuracy'; there are \['loss'"):
        trainer.train()
    assert len(watcher.starts) == 1


# ---- killed and resumed ----

SPEC = {"name": "annealing", "tau_max": 3, "steps": 8, "metric": "loss"}


@pytest.mark.slow
@pytest.mark.parametrize("step", [5, 8, 13])
def test_a_killed_annealing_run_ends_where_the_whole_one_does(tmp_path, step):
    """Checkpoints every 3 steps, evaluations every 2, the switch at 8: killed before, at and after it."""
    undisturbed, resumed = whole_and_resumed(tmp_path, SPEC, step)
    assert resumed.state.global_step == 16
    assert same(resumed.model.state_dict(), undisturbed.model.state_dict())


@pytest.mark.slow
def test_a_checkpoint_of_phase_one_can_be_continued_once_the_folder_has_gone_on(tmp_path):
    """The output folder is that of a finished run; the old checkpoint must bring its own best student."""
    teacher = save_teacher_run(tmp_path / "teacher")
    whole = make_trainer(tmp_path / "run", teacher, SPEC, None)
    whole.args.save_total_limit = None
    whole.train()
    (tmp_path / "run" / FILE_NAME).unlink()
    again = make_trainer(tmp_path / "run", teacher, SPEC, None)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))
    assert same(again.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("name", ["annealing", "continuation"])
def test_margin_mse_is_refused_where_logits_of_padding_are_made_up(name):
    curriculum = CURRICULA.build({"name": name}, path="curriculum")
    with pytest.raises(ValueError, match=f"{name}: 'margin_mse' does not fit a question_answering head; it fits"):
        curriculum.plan(plan_context(10, head="question_answering"))
