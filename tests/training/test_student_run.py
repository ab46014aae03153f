"""From a finished trainer to the record of its student: what was run, and nothing that was not."""

from __future__ import annotations

import pytest
from builders import distill_trainer, examples, save_teacher_run

from hf_distill.run_record import StudentRun
from hf_distill.training.student_run import stage_records, student_run

TWO_SHOT = {"name": "two_shot", "revision": "checkpoint-10", "steps": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A two-shot student after 4 steps, evaluated every 2."""
    folder = tmp_path_factory.mktemp("student")
    trainer = distill_trainer(
        folder / "run",
        teacher=str(save_teacher_run(folder / "teacher", steps=(10, 20))),
        curriculum=TWO_SHOT,
        eval_dataset=examples("classification", seed=1),
        eval_strategy="steps",
        eval_steps=2,
        seed=3,
    )
    trainer.train()
    return trainer


def record_of(trainer, **overrides) -> StudentRun:
    values = {
        "curriculum": "two_shot",
        "folder": "students/two_shot-3",
        "final_metrics": {"loss": 1.0},
        "metric": "loss",
        "level": None,
        "greater_is_better": False,
    }
    return student_run(trainer, **{**values, **overrides})


def test_the_record_says_which_revision_taught_when(trained):
    stages = record_of(trained).stages
    assert [(stage.name, stage.start, stage.end, stage.revision) for stage in stages] == [
        ("checkpoint-10", 0, 2, "checkpoint-10"),
        ("final", 2, 4, "checkpoint-20"),
    ]
    assert stages[0].terms == ["KL(teacher/τ ‖ student) [τ=1]"]


def test_held_out_points_have_metrics_and_no_timings(trained):
    history = record_of(trained).history
    assert [point["step"] for point in history] == [2, 4]
    assert all(set(point) == {"step", "loss"} for point in history)


def test_training_points_have_the_parts_of_the_loss(trained):
    log = record_of(trained).training_log
    assert [point["step"] for point in log] == [1, 2, 3, 4]
    assert all(point["objective/forward_kl"] == pytest.approx(point["loss"], rel=1e-5) for point in log)
    assert [point["teacher/step"] for point in log] == [10.0, 10.0, 20.0, 20.0]


def test_the_record_keeps_seed_label_folder_and_formula(trained):
    run = record_of(trained)
    assert (run.curriculum, run.seed, run.folder) == ("two_shot", 3, "students/two_shot-3")
    assert run.loss_formula == "KL(teacher/τ ‖ student) [τ=1]"
    assert run.final_metrics == {"loss": 1.0}


@pytest.mark.parametrize(("level", "reached"), [(100.0, 2), (-1.0, None), (None, None)])
def test_the_first_step_at_a_level_is_recorded(trained, level, reached):
    assert record_of(trained, level=level).steps_to_level == reached


def test_costs_are_those_of_this_training(trained):
    costs = record_of(trained).costs
    assert 0.0 < costs["median_step_seconds"] < costs["seconds"]
    assert 0.0 < costs["teacher_share"] < 1.0
    assert costs["swap_stall_seconds"] > 0.0
    assert costs["examples_per_second"] == pytest.approx(4 / costs["median_step_seconds"])
    assert costs["tokens_per_second"] > costs["examples_per_second"] / 10
    assert costs["peak_memory_bytes"] > 2**20


def test_labels_cost_no_teacher(tmp_path):
    trainer = distill_trainer(tmp_path, max_steps=1)
    trainer.train()
    run = record_of(trainer)
    assert run.costs["teacher_share"] == 0.0
    assert [(stage.name, stage.revision) for stage in run.stages] == [("labels", None)]
    assert run.history == []


def test_a_stage_that_training_never_reached_is_not_recorded(trained):
    """A callback may stop training early; the stages after that did not happen."""
    plan = trained.distillation.make_plan(4)
    plan.switches = [4]
    assert [(stage.start, stage.end) for stage in stage_records(plan, trained)] == [(0, 4)]
    plan.switches = [9]
    assert [(stage.start, stage.end) for stage in stage_records(plan, trained)] == [(0, 4)]


def test_there_is_nothing_to_record_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"nothing to record before train\(\)"):
        record_of(distill_trainer(tmp_path))
