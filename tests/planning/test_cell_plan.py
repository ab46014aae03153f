"""What a curriculum needs: steps with a teacher, examples by revision, arithmetic."""

from __future__ import annotations

import pytest
from builders import distill_trainer, revisions_at, tiny_model
from plans import size_of

from hf_distill.pipeline.cells import Cell
from hf_distill.planning.arithmetic import forward_flops, train_flops
from hf_distill.planning.cell_plan import CellPlan, cell_plan
from hf_distill.planning.memory import BatchShape
from hf_distill.planning.probe import Probe
from hf_distill.planning.stand_in import StandIn

SHAPE = BatchShape(examples=4, tokens=40, positions=48, rows=12)
SIZES = size_of(multiplied=1000, outputs=10), size_of(multiplied=3000, outputs=10)
STUDENT, TEACHER = train_flops(SIZES[0], SHAPE), forward_flops(SIZES[1], SHAPE)


def planned(tmp_path, curriculum: dict, **training) -> CellPlan:
    trainer = distill_trainer(tmp_path, curriculum={"name": "labels"}, **training)
    return cell_plan(
        [Cell("a", curriculum, {}, seed) for seed in (0, 1, 2)],
        trainer,
        steps=100,
        student=SIZES[0],
        teacher=SIZES[1],
        stand_in=StandIn(tiny_model("classification"), revisions_at(10, 20, 30), 0),
        shape=SHAPE,
        probe=None,
    )


def test_labels_run_no_teacher(tmp_path):
    plan = planned(tmp_path, {"name": "labels"})
    assert (plan.students, plan.teacher_steps, plan.examples_read) == (3, 0, {})
    assert plan.flops == 100 * STUDENT


def test_each_revision_reads_the_examples_of_its_own_stage(tmp_path):
    plan = planned(tmp_path, {"name": "two_shot", "revision": "auto", "steps": 30}, gradient_accumulation_steps=2)
    assert plan.examples_read == {0: 30 * 2 * 4, 2: 70 * 2 * 4}
    assert plan.flops == 100 * 2 * (STUDENT + TEACHER)


def test_a_teacher_of_part_of_the_run_is_paid_for_that_part(tmp_path):
    plan = planned(tmp_path, {"name": "annealing", "steps": 25})
    assert (plan.teacher_steps, plan.examples_read) == (25, {2: 25 * 4})


def test_a_teacher_whose_layers_are_compared_says_so(tmp_path):
    assert not planned(tmp_path / "a", {"name": "one_shot"}).reads_layers
    hidden = {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "hidden_mse"}]}
    assert planned(tmp_path / "b", hidden).reads_layers
    assert planned(tmp_path / "c", {"name": "extraction", "steps": 10}).reads_layers


def test_passes_of_the_student_multiply_its_arithmetic(tmp_path):
    once = planned(tmp_path / "a", {"name": "labels"})
    three = planned(tmp_path / "b", {"name": "one_shot", "intra": {"passes": 3, "alpha": 1.0}})
    assert three.flops == 3 * once.flops + 100 * TEACHER


def test_time_is_told_only_where_it_was_measured(tmp_path):
    plan = planned(tmp_path, {"name": "labels"})
    assert plan.seconds is None
    measured = Probe(step_seconds=0.5, teacher_share=0.0, peak_bytes=1)
    assert CellPlan(label="a", students=3, steps=100, teacher_steps=0, probe=measured).seconds == pytest.approx(150.0)
