"""The progress bar says the stage and the parts of the loss, and nothing of an earlier training."""

from __future__ import annotations

import pytest
from builders import distill_config
from transformers import TrainerControl, TrainerState

from hf_distill.training.progress import StageProgressCallback


class Bar:
    """A training in progress: the callback, its arguments, and the stage that begins."""

    def __init__(self, folder) -> None:
        self.stage = "step10"
        self.callback = StageProgressCallback(lambda: self.stage)
        self.args = distill_config(folder)
        self.state = TrainerState(max_steps=10, is_world_process_zero=True, is_local_process_zero=True)

    def call(self, event: str, **kwargs):
        getattr(self.callback, f"on_{event}")(self.args, self.state, TrainerControl(), **kwargs)

    @property
    def shown(self):
        return self.callback.training_bar


@pytest.fixture
def bar(tmp_path) -> Bar:
    made = Bar(tmp_path)
    made.call("train_begin")
    yield made
    if made.shown is not None:
        made.call("train_end")


def test_the_bar_begins_with_the_stage(bar):
    bar.call("step_begin")
    assert bar.shown.desc == "step10: "


def test_the_bar_follows_a_switch(bar):
    bar.call("step_begin")
    bar.stage = "final"
    bar.call("step_begin")
    assert bar.shown.desc == "final: "


def test_a_second_training_shows_its_stage_and_no_old_numbers(bar):
    bar.call("step_begin")
    bar.call("log", logs={"loss": 2.0})
    bar.call("train_end")
    bar.call("train_begin")
    bar.call("step_begin")
    bar.call("log", logs={"objective/forward_kl": 0.5})
    assert bar.shown.desc == "step10: "
    assert bar.shown.postfix == "forward_kl=0.5"


def test_parts_of_the_loss_and_held_out_metrics_stand_behind_the_bar(bar):
    bar.call(
        "log", logs={"loss": 1.23456, "objective/forward_kl": 0.5, "learning_rate": 0.1, "weight/forward_kl": 1.0}
    )
    bar.call("log", logs={"eval_accuracy": 0.75, "eval_runtime": 3.0, "eval_samples_per_second": 9.0})
    assert bar.shown.postfix == "loss=1.235, forward_kl=0.5, eval_accuracy=0.75"


def test_an_evaluation_inside_training_opens_no_second_bar(bar):
    bar.call("prediction_step", eval_dataloader=[1, 2, 3])
    assert bar.callback.prediction_bar is None


def test_an_evaluation_of_its_own_has_a_bar(tmp_path):
    alone = Bar(tmp_path)
    alone.call("prediction_step", eval_dataloader=[1, 2, 3])
    assert alone.callback.prediction_bar.total == 3
    alone.call("evaluate")


def test_a_process_without_a_bar_stays_silent(tmp_path, capsys):
    alone = Bar(tmp_path)
    alone.call("step_begin")
    alone.call("log", logs={"loss": 1.0})
    assert alone.shown is None
    assert capsys.readouterr().out == ""
