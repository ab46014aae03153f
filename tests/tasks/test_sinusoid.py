from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_distill.tasks import NoisySinusoid, TaskData
from hf_distill.tasks.sinusoid_model import NoisySinusoidForSequenceClassification

NOWHERE = Path("unused")
TEACHER = {"architecture": "noisy_sinusoid"}


def prepared(seed: int = 0, **fields: Any) -> TaskData:
    return NoisySinusoid(**fields).prepare(seed=seed, cache_dir=NOWHERE)


def rows(data: Any) -> tuple[np.ndarray, np.ndarray]:
    batch = data.__getitems__(range(len(data)))[0]
    return batch["inputs"].numpy().astype(np.float64), batch["labels"].numpy()


def test_labels_have_no_noise_and_the_frequency_asked_for() -> None:
    data = prepared(signal_frequency=1.5)
    for part in (data.train, data.validation):
        x, y = rows(part)
        assert x.shape == (len(part), 1)
        np.testing.assert_allclose(y, np.sin(3.0 * np.pi * x[:, 0]), atol=2e-6)


def test_training_points_are_even_and_differ_for_every_seed() -> None:
    one, two = (rows(prepared(seed).train)[0][:, 0] for seed in (0, 1))
    assert len(one) == 3000
    assert abs(one.mean()) < 4.5 * (1 / 3) ** 0.5 / 3000**0.5
    assert one.min() < -0.99 and one.max() > 0.99
    assert len(np.intersect1d(one, two)) < 3


def test_the_teacher_of_the_recipe_is_the_function_of_the_tasks() -> None:
    task = NoisySinusoid(signal_frequency=1.0, noise_frequency=4.0, noise_amplitude=0.2)
    data = task.prepare(seed=0, cache_dir=NOWHERE)
    teacher = task.build_model(TEACHER, data)
    assert isinstance(teacher, NoisySinusoidForSequenceClassification)
    batch = data.validation.__getitems__(range(100))[0]
    x = batch["inputs"][:, 0].double().numpy()
    expected = np.sin(2.0 * np.pi * x) + 0.2 * np.sin(8.0 * np.pi * x)
    np.testing.assert_allclose(teacher(batch["inputs"]).logits[:, 0].detach().numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_share_of_copied_noise_is_found(share: float) -> None:
    task = NoisySinusoid(noise_amplitude=0.3, noise_frequency=5.0)
    x = task.grid()
    labels = np.sin(2.0 * np.pi * x)
    predictions = labels + share * 0.3 * np.sin(10.0 * np.pi * x)
    metrics = task.compute_metrics(EvalPrediction(predictions=predictions[:, None], label_ids=labels))
    assert metrics["noise_copied"] == pytest.approx(share, abs=1e-12)
    assert metrics["mse"] == pytest.approx((share * 0.3) ** 2 / 2, rel=2e-3, abs=1e-15)


def test_a_teacher_without_noise_does_not_divide_by_zero() -> None:
    task = NoisySinusoid(noise_amplitude=0.0)
    labels = np.sin(2.0 * np.pi * task.grid())
    assert task.compute_metrics(EvalPrediction(predictions=labels[:, None] + 1.0, label_ids=labels)) == {
        "mse": 1.0,
        "noise_copied": 0.0,
    }


@pytest.mark.parametrize("fields", [{"train_examples": 0}, {"validation_examples": 1}])
def test_a_set_without_examples_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 training and 2 held-out examples, got"):
        NoisySinusoid(**fields)


def test_a_model_of_text_is_refused() -> None:
    task, data = NoisySinusoid(), prepared()
    spec = {"architecture": "bert", "config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}}
    with pytest.raises(ValueError, match=r"BertForSequenceClassification does not read a number; use.*sinusoid_mlp"):
        task.build_model(spec, data)
