"""A student learns from cached targets what it learns from the live teacher, stage by stage, resumed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, save_teacher_run
from cache_cases import FLOAT_HIDDEN, LOGITS, make_walk, settings
from tiers import mostly_slow

from hf_distill.cache.targets import cache_targets
from hf_distill.teachers import TeacherSequence
from hf_distill.teachers.cached import CachedTeacher

CURRICULA = {
    "one_shot": {"name": "one_shot"},
    "two_shot": {"name": "two_shot", "revision": 20, "steps": 4},
    "n_shot": {"name": "n_shot", "steps": 3},
    "mixed": {"name": "two_shot", "revision": 10, "steps": 4, "label_mix": 0.3, "temperature": 2.0},
}
EVERY_CURRICULUM = pytest.mark.parametrize("curriculum", mostly_slow(CURRICULA, quick=lambda name: name == "n_shot"))
COUNT = 40
"""Examples of one epoch: each is met once, in the batch in which it was written."""


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def both(folder: Path, head: str, codec: dict[str, Any], *, count: int = COUNT, **overrides: Any) -> tuple[Any, Any]:
    """Train one student with the live teacher and one with its cached targets."""
    teacher, data = save_teacher_run(folder / "teacher", head), examples(head, count=count)
    walk = make_walk(folder / "walk", head, TeacherSequence(str(teacher)), data, **overrides)
    cache_targets(folder / "cache", [walk], codec=codec)
    trainers = []
    for name, source in (("live", TeacherSequence(str(teacher))), ("cached", CachedTeacher(folder / "cache"))):
        trainers.append(
            distill_trainer(folder / name, head, teacher=source, train_dataset=data, **settings(**overrides))
        )
        trainers[-1].train()
    return trainers[0], trainers[1]


@EVERY_CURRICULUM
@pytest.mark.parametrize("head", ["classification", "regression", "token_classification"])
def test_float32_logits_give_bitwise_the_same_student(tmp_path: Path, head: str, curriculum: str) -> None:
    spec = {key: value for key, value in CURRICULA[curriculum].items() if head != "regression" or key != "temperature"}
    live, cached = both(tmp_path, head, LOGITS, curriculum=spec)
    assert losses(cached) == losses(live)
    assert torch.equal(flat_weights(cached.model), flat_weights(live.model))


@EVERY_CURRICULUM
@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_float32_hidden_states_give_the_same_student(tmp_path: Path, head: str, curriculum: str) -> None:
    """The head's product runs over other rows at once, which may move the last bit."""
    live, cached = both(tmp_path, head, FLOAT_HIDDEN, curriculum=CURRICULA[curriculum])
    assert losses(cached) == pytest.approx(losses(live), rel=1e-5)
    torch.testing.assert_close(flat_weights(cached.model), flat_weights(live.model), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "loss", "weights"),
    [
        ({"name": "hidden", "dtype": "bfloat16"}, 1e-2, 2e-3),
        ({"name": "hidden", "dtype": "int8"}, 2e-2, 4e-3),
        ({"name": "logits", "dtype": "float16"}, 2e-3, 2e-4),
        ({"name": "top_k", "k": 40, "dtype": "float32"}, 1e-5, 1e-5),
        ({"name": "top_k", "k": 40, "dtype": "float16"}, 5e-3, 1e-3),
    ],
    ids=str,
)
def test_other_codecs_stay_within_their_precision(tmp_path: Path, codec: dict[str, Any], loss: float, weights: float):
    live, cached = both(tmp_path, "masked_lm", codec, curriculum=CURRICULA["n_shot"])
    assert losses(cached) == pytest.approx(losses(live), rel=loss)
    torch.testing.assert_close(flat_weights(cached.model), flat_weights(live.model), rtol=0, atol=weights)


@pytest.mark.slow
def test_top_k_kl_learns_the_same_from_stored_top_k(tmp_path: Path) -> None:
    objectives = {"name": "n_shot", "steps": 3, "objectives": [{"name": "top_k_kl", "k": 6}]}
    live, cached = both(tmp_path, "causal_lm", {"name": "top_k", "k": 6, "dtype": "float32"}, curriculum=objectives)
    assert losses(cached) == pytest.approx(losses(live), rel=1e-4)
    torch.testing.assert_close(flat_weights(cached.model), flat_weights(live.model), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_several_epochs_and_accumulation_read_the_same_targets(tmp_path: Path) -> None:
    live, cached = both(
        tmp_path, "classification", LOGITS, count=12, per_device_train_batch_size=2, gradient_accumulation_steps=2
    )
    assert losses(cached) == pytest.approx(losses(live), rel=1e-6)
    torch.testing.assert_close(flat_weights(cached.model), flat_weights(live.model), rtol=0, atol=1e-6)


def test_each_stage_reads_its_own_revision(tmp_path: Path) -> None:
    """The loss of a student that does not move tells which revision spoke."""
    live, cached = both(tmp_path, "classification", LOGITS, curriculum=CURRICULA["n_shot"], learning_rate=0.0, count=4)
    assert losses(cached) == pytest.approx(losses(live), rel=1e-6)
    assert len({round(loss, 5) for loss in losses(cached)}) == 3
    assert [entry["teacher/step"] for entry in cached.state.log_history if "loss" in entry] == [10] * 3 + [20] * 3 + [
        30
    ] * 4


@pytest.mark.parametrize("step", mostly_slow([2, 5, 8], quick=lambda step: step == 5))
def test_a_run_that_is_resumed_with_cached_targets_is_the_same_run(tmp_path: Path, step: int) -> None:
    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=COUNT)
    training = settings(save_strategy="steps", save_steps=1, optim="adamw_torch", learning_rate=1e-2)
    walk = make_walk(tmp_path / "walk", "classification", TeacherSequence(str(teacher)), data)
    cache_targets(tmp_path / "cache", [walk], codec=LOGITS)

    def trainer() -> Any:
        return distill_trainer(
            tmp_path / "run", teacher=CachedTeacher(tmp_path / "cache"), train_dataset=data, **training
        )

    whole = trainer()
    whole.train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
    assert torch.equal(flat_weights(resumed.model), flat_weights(whole.model))


@pytest.mark.slow
def test_a_run_begun_with_the_live_teacher_goes_on_with_cached_targets(tmp_path: Path) -> None:
    """Both name the same commits."""
    teacher, data = save_teacher_run(tmp_path / "teacher"), examples("classification", count=COUNT)
    training = settings(save_strategy="steps", save_steps=1)
    walk = make_walk(tmp_path / "walk", "classification", TeacherSequence(str(teacher)), data)
    cache_targets(tmp_path / "cache", [walk], codec=LOGITS)
    live = distill_trainer(tmp_path / "run", teacher=TeacherSequence(str(teacher)), train_dataset=data, **training)
    live.train()
    resumed = distill_trainer(
        tmp_path / "run", teacher=CachedTeacher(tmp_path / "cache"), train_dataset=data, **training
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert torch.equal(flat_weights(resumed.model), flat_weights(live.model))
