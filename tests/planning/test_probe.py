"""A few real steps and a few real batches."""

from __future__ import annotations

import pytest
from builders import distill_trainer, examples, tiny_model

from hf_distill.planning.memory import BatchShape
from hf_distill.planning.probe import PROBED, STEPS, WARMUP, batch_shape, probe_steps


def test_a_probe_takes_its_steps_and_tells_the_teachers_part(tmp_path):
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=7), **PROBED)
    found = probe_steps(trainer)
    assert trainer.state.global_step == STEPS + WARMUP
    assert found.step_seconds > 0
    assert 0 < found.teacher_share < 1
    assert found.peak_bytes > 10**7


def test_what_the_teacher_takes_to_warm_up_counts(tmp_path):
    """Compiling takes minutes, in the first calls."""
    teacher, calls = tiny_model("classification", seed=7), []
    trainer = distill_trainer(tmp_path, teacher=teacher, **PROBED)

    def compile_slowly(*_) -> None:
        calls.append(1)
        if len(calls) <= WARMUP:
            trainer.distillation.log.teacher_seconds += 1000.0

    teacher.register_forward_pre_hook(compile_slowly)
    assert 0 < probe_steps(trainer).teacher_share < 1


def test_a_probe_without_a_teacher_has_no_share(tmp_path):
    assert probe_steps(distill_trainer(tmp_path, **PROBED)).teacher_share == 0.0


@pytest.mark.parametrize(
    ("head", "rows"), [("classification", 4), ("regression", 4), ("masked_lm", None), ("causal_lm", None)]
)
def test_a_batch_is_measured_as_the_loss_counts_it(tmp_path, head, rows):
    shape = batch_shape(distill_trainer(tmp_path, head))
    assert shape.examples == 4
    assert shape.positions == 4 * 12
    assert 0 < shape.tokens <= shape.positions
    assert shape.rows == rows if rows else 0 < shape.rows <= shape.tokens


def test_the_largest_of_the_first_batches_counts(tmp_path):
    short, long = examples("classification", count=4, length=6), examples("classification", count=4, length=12)
    shape = batch_shape(distill_trainer(tmp_path, train_dataset=[*short, *long], train_sampling_strategy="sequential"))
    assert shape == BatchShape(examples=4, tokens=shape.tokens, positions=48, rows=4)
