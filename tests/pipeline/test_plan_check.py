from __future__ import annotations

import pytest
from builders import distill_trainer, examples, tiny_model

from hf_distill.pipeline.plan_check import check_plan, planned_steps


@pytest.mark.parametrize(("batch", "accumulation", "epochs", "steps"), [(4, 1, 3, 6), (3, 2, 2.5, 5), (8, 1, 1, 1)])
def test_planned_steps_are_those_that_training_takes(tmp_path, batch, accumulation, epochs, steps):
    settings = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": epochs,
        "max_steps": -1,
    }
    trainer = distill_trainer(tmp_path, train_dataset=examples("classification", count=8), **settings)
    assert planned_steps(trainer) == steps
    trainer.train()
    assert trainer.state.global_step == steps
    assert planned_steps(distill_trainer(tmp_path, max_steps=4)) == 4


def test_auto_without_a_choice_says_why(tmp_path):
    curriculum = {"name": "two_shot", "revision": "auto", "steps": 2}
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=7), curriculum=curriculum)
    with pytest.raises(ValueError, match="no revision can be chosen by `auto`: it never learnt"):
        check_plan(trainer, chosen=None, problem="it never learnt")
    with pytest.raises(ValueError, match="no revision can be chosen by `auto`: the teacher has one revision only"):
        check_plan(trainer, chosen=None)


def test_stages_that_do_not_fit_are_refused(tmp_path):
    curriculum = {"name": "two_shot", "revision": "final", "steps": 2}
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=7), curriculum=curriculum)
    with pytest.raises(ValueError, match="'final' is the final teacher itself"):
        check_plan(trainer, chosen=None)


def test_a_teacher_whose_revisions_are_not_known_yet_is_left_for_later(tmp_path):
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=7))
    trainer.teacher.revisions = []
    assert check_plan(trainer, chosen=None) is None
