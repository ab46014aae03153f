from __future__ import annotations

import pytest
from tiny_recipes import SGD
from transformers import TrainerControl, TrainerState

from hf_distill.pipeline.trained_teacher import StopAtLevel, TrainedTeacher
from hf_distill.recipe.teacher_spec import StopAt, TeacherTraining
from hf_distill.tasks import Parity


@pytest.mark.parametrize(("greater", "value", "stops"), [(True, 0.95, True), (True, 0.85, False), (False, 0.85, True)])
def test_stopping_knows_which_way_is_better(greater, value, stops):
    control = TrainerControl()
    callback = StopAtLevel("score", 0.9, greater_is_better=greater)
    callback.on_evaluate(None, TrainerState(), control, metrics={"eval_score": value})
    assert control.should_training_stop is stops
    assert control.should_save is stops


def test_stopping_by_a_metric_that_is_not_there_lists_those_that_are():
    with pytest.raises(ValueError, match=r"stop_at\.metric: no held-out metric 'acc'; there are accuracy$"):
        StopAtLevel("acc", 0.9, greater_is_better=True).on_evaluate(
            None, TrainerState(), TrainerControl(), metrics={"eval_accuracy": 1.0}
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"training": {**SGD, "max_steps": 4, "save_strategy": "no"}},
            r"^teacher\.train\.training\.save_strategy: others learn from the checkpoints of the teacher",
        ),
        (
            {"training": {"max_steps": 4, "use_cpu": True}, "stop_at": StopAt(metric="accuracy", level=0.9)},
            r"^teacher\.train\.stop_at: there are no evaluations",
        ),
        (
            {"model": {"architecture": "parity_mlp", "config": {"width": -4}}},
            r"^teacher\.train\.model: no .* can be built from 'parity_mlp'.*negative dimension",
        ),
        (
            {"model": {"architecture": "parity_mlp", "config": {"wdith": 4}}},
            r"^teacher\.train\.model\.config\.wdith: unknown key\. Did you mean `width`",
        ),
    ],
)
def test_a_training_of_which_nothing_would_be_left_is_refused_before_it_begins(tmp_path, changes, said):
    settings = {"model": {"architecture": "parity_mlp", "config": {"width": 4}}, "training": SGD, **changes}
    task = Parity(d=6, k=2, validation_examples=8)
    trained = TrainedTeacher(
        name="teacher", training=TeacherTraining(**settings), folder=tmp_path / "teacher", path="teacher.train"
    )
    with pytest.raises(ValueError, match=said):
        trained.train(task, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("finished.json"))
