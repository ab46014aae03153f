"""The three ways to the loss of a micro-batch: they lead to one number and one gradient."""

from __future__ import annotations

import pytest
import torch
from builders import distill_trainer, tiny_model
from tiers import mostly_slow
from updates import update_of

OBJECTIVES = [
    [{"name": "forward_kl"}],
    [{"name": "reverse_kl", "temperature": 2.0}],
    [{"name": "generalized_jsd", "beta": 0.3}, {"name": "skew_kl", "weight": 0.5}],
    [{"name": "forward_kl"}, {"name": "logit_mse", "weight": 0.1}],
]


def trained(folder, head: str, *, whole: bool, **changes):
    """Return the update of two steps over two micro-batches each, and the trainer."""
    trainer = distill_trainer(
        folder,
        head,
        teacher=tiny_model(head, seed=7),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=2,
        **changes,
    )
    trainer.distillation.reader.whole_logits = whole
    return update_of(trainer), trainer


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
@pytest.mark.parametrize(
    "objectives",
    mostly_slow(OBJECTIVES, quick=lambda terms: len(terms) == 1),
    ids=lambda terms: "+".join(term["name"] for term in terms),
)
@pytest.mark.parametrize("label_mix", [0.0, 0.3])
def test_tiles_make_the_update_of_whole_logits(tmp_path, head, objectives, label_mix):
    curriculum = {"name": "one_shot", "objectives": objectives, "label_mix": label_mix}
    whole, dense = trained(tmp_path / "whole", head, whole=True, curriculum=curriculum)
    tiles, tiled = trained(tmp_path / "tiles", head, whole=False, curriculum=curriculum)
    torch.testing.assert_close(tiles, whole, rtol=1e-4, atol=1e-6)
    logs = [[entry for entry in run.state.log_history if "loss" in entry] for run in (dense, tiled)]
    assert len(logs[0]) == 2
    for one, other in zip(*logs, strict=True):
        parts = [key for key in one if key == "loss" or key.startswith("objective/")]
        assert {key: other[key] for key in parts} == pytest.approx({key: one[key] for key in parts}, rel=1e-4)


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_a_vocabularys_logits_are_never_whole_in_training(tmp_path, head):
    """Neither model gives more logits than those of one position, so no tensor of positions × vocabulary exists."""
    student, teacher, shapes = tiny_model(head, seed=1), tiny_model(head, seed=7), []
    for model in (student, teacher):
        model.register_forward_hook(lambda module, inputs, output: shapes.append(output.logits.shape[:2].numel()))
    distill_trainer(tmp_path, head, model=student, teacher=teacher, max_steps=2).train()
    assert shapes
    assert max(shapes) == 1


def test_evaluation_has_no_logits_of_all_positions(tmp_path):
    student, shapes = tiny_model("masked_lm", seed=1), []
    student.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.logits.shape[:2])))
    trainer = distill_trainer(tmp_path, "masked_lm", model=student)
    trainer.evaluate(trainer.train_dataset)
    assert set(shapes) == {(8, 12)}


@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_several_passes_compare_rows_of_the_heads(tmp_path, mode):
    """Objectives that compare passes need their logits, but of the labelled rows only."""
    curriculum = {"name": "one_shot", "intra": {"passes": 3, "alpha": 1.0, "mode": mode}}
    whole, _ = trained(tmp_path / "whole", "masked_lm", whole=True, curriculum=curriculum)
    rows, _ = trained(tmp_path / "rows", "masked_lm", whole=False, curriculum=curriculum)
    torch.testing.assert_close(rows, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_a_teacher_in_16_bit_is_not_heard_as_noise(tmp_path, head):
    """Its head is multiplied in its own number format, in tiles as in whole logits."""
    updates = {}
    for dtype in (torch.float32, torch.bfloat16):
        for whole in (True, False):
            teacher = tiny_model(head, seed=7).to(dtype)
            trainer = distill_trainer(tmp_path / f"{dtype}{whole}", head, teacher=teacher, max_steps=1)
            trainer.distillation.reader.whole_logits = whole
            updates[dtype, whole] = update_of(trainer)
    exact = updates[torch.float32, True]
    for update in updates.values():
        assert (update - exact).norm() < 0.05 * exact.norm()
    half = updates[torch.bfloat16, True]
    assert (updates[torch.bfloat16, False] - half).norm() < 0.02 * half.norm()
    assert (half - exact).norm() > 1e-5 * exact.norm()
