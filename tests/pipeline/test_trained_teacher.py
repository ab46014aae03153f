from __future__ import annotations

import pytest
from transformers import TrainerControl, TrainerState

from hf_distill.pipeline.trained_teacher import StopAtLevel


@pytest.mark.parametrize(("greater", "value", "stops"), [(True, 0.95, True), (True, 0.85, False), (False, 0.85, True)])
def test_stopping_knows_which_way_is_better(greater, value, stops):
    control = TrainerControl()
    callback = StopAtLevel("score", 0.9, greater_is_better=greater)
    callback.on_evaluate(None, TrainerState(), control, metrics={"eval_score": value})
    assert control.should_training_stop is stops
    assert control.should_save is stops


def test_stopping_by_a_metric_that_is_not_there_lists_those_that_are():
    with pytest.raises(ValueError, match=r"stop_at\.metric: no held-out metric 'acc'.*eval_accuracy"):
        StopAtLevel("acc", 0.9, greater_is_better=True).on_evaluate(
            None, TrainerState(), TrainerControl(), metrics={"eval_accuracy": 1.0}
        )
