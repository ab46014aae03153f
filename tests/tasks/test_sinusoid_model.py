from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from hf_distill.models.compatibility import head_of
from hf_distill.tasks.sinusoid_model import (
    NoisySinusoidConfig,
    NoisySinusoidForSequenceClassification,
    SinusoidMlpConfig,
    SinusoidMlpForSequenceClassification,
    register_sinusoid_models,
)


def models() -> list[PreTrainedModel]:
    return [
        SinusoidMlpForSequenceClassification(SinusoidMlpConfig(hidden_size=16)),
        NoisySinusoidForSequenceClassification(NoisySinusoidConfig(noise_amplitude=0.25, noise_frequency=7.0)),
    ]


def test_the_student_is_the_papers_network() -> None:
    model = SinusoidMlpForSequenceClassification(SinusoidMlpConfig())
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes == [(128, 1), (128,), (128, 128), (128,), (1, 128), (1,)]
    plain = torch.nn.Sequential(
        torch.nn.Linear(1, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 1)
    )
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.linspace(-1, 1, 50).unsqueeze(-1)
    assert torch.equal(model(x).logits, plain(x))
    assert model.layers[1][0].weight.std().item() == pytest.approx(128**-0.5 / 3**0.5, rel=0.05)


def test_the_teacher_is_its_formula() -> None:
    x = torch.linspace(-1, 1, 50).unsqueeze(-1)
    expected = torch.sin(2 * math.pi * x) + 0.25 * torch.sin(14 * math.pi * x)
    torch.testing.assert_close(models()[1](x).logits, expected, rtol=0.0, atol=5e-6)


@pytest.mark.parametrize("index", [0, 1])
def test_a_saved_model_loads_as_the_same_function(tmp_path: Path, index: int) -> None:
    model = models()[index]
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    x = torch.linspace(-1, 1, 50).unsqueeze(-1)
    assert type(loaded) is type(model)
    assert torch.equal(loaded(x).logits, model(x).logits)
    assert head_of(loaded) == "regression"
    assert AutoConfig.from_pretrained(tmp_path).model_type == model.config.model_type


def test_the_loss_is_the_mean_squared_error() -> None:
    model, x, labels = models()[1], torch.rand(6, 1), torch.rand(6)
    output = model(x, labels=labels)
    torch.testing.assert_close(output.loss, (output.logits[:, 0] - labels).square().mean())
    loss, logits = model(x, labels=labels, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)


def test_registering_twice_is_no_error() -> None:
    register_sinusoid_models()
    assert type(AutoConfig.for_model("sinusoid_mlp")) is SinusoidMlpConfig
    assert type(AutoConfig.for_model("noisy_sinusoid")) is NoisySinusoidConfig
