"""Guards around training: they change no number of a run without a fault, and are there under every trainer."""

from __future__ import annotations

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, tiny_model

from hf_distill import ProgressiveDistillConfig
from hf_distill.faults.guarded_training import GuardedTraining


def trained(folder, **overrides):
    trainer = distill_trainer(
        folder, teacher=tiny_model("classification", seed=7), eval_dataset=examples("classification"), **overrides
    )
    assert isinstance(trainer, GuardedTraining)
    trainer.train()
    return trainer


def test_skipping_changes_no_number_of_a_run_without_bad_batches(tmp_path):
    stopping, skipping = (trained(tmp_path / mode, on_bad_batch=mode) for mode in ("stop", "skip"))
    assert torch.equal(flat_weights(stopping.model), flat_weights(skipping.model))
    losses = [[entry.get("loss") for entry in one.state.log_history] for one in (stopping, skipping)]
    assert losses[0] == losses[1]
    assert not any("skipped_steps" in entry for entry in skipping.state.log_history)


def test_one_process_has_no_watch_for_hung_ranks(tmp_path):
    trained(tmp_path)
    assert not (tmp_path / "hang").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_bad_batch": "ignore"}, "on_bad_batch must be `stop` or `skip`, got 'ignore'"),
        ({"enable_jit_checkpoint": True}, "SIGTERM is always answered with a checkpoint"),
    ],
)
def test_settings_that_would_lose_a_run_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveDistillConfig(str(tmp_path), use_cpu=True, **settings)


@pytest.mark.parametrize(("settings", "enabled"), [({"save_strategy": "steps", "save_steps": 2}, True), ({}, False)])
def test_sigterm_is_answered_where_a_checkpoint_could_be_resumed(tmp_path, settings, enabled):
    assert trained(tmp_path, **settings)._preemption.enabled is enabled
