from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_distill.tasks import ParityMlpConfig, ParityMlpForSequenceClassification
from hf_distill.tasks.parity_model import register_parity_mlp


def network(**sizes: int) -> ParityMlpForSequenceClassification:
    return ParityMlpForSequenceClassification(ParityMlpConfig(**sizes))


@pytest.fixture
def signs() -> torch.Tensor:
    return torch.randint(0, 2, (16, 50)).float() * 2 - 1


def test_the_network_computes_its_formula(signs: torch.Tensor) -> None:
    model = network(width=20)
    plain = torch.nn.Sequential(torch.nn.Linear(50, 20), torch.nn.ReLU(), torch.nn.Linear(20, 2))
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    labels = torch.randint(0, 2, (16,))
    output = model(signs, labels=labels)
    assert torch.equal(output.logits, plain(signs))
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(plain(signs), labels))


def test_initial_weights_are_those_of_pytorch_instead_of_transformers() -> None:
    model = network(width=4000)
    for layer, inputs in ((model.layers[0][0], 50), (model.output, 4000)):
        bound = inputs**-0.5
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
            assert parameter.abs().max() > 0.0
        # Uniform in ±bound: deviation bound / √3.
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert model.layers[0][0].bias.std().item() == pytest.approx(50**-0.5 / 3**0.5, rel=0.05)


def test_a_saved_network_loads_with_the_same_weights(tmp_path: Path, signs: torch.Tensor) -> None:
    model = network(width=30)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is ParityMlpForSequenceClassification
    assert {file.name for file in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert torch.equal(loaded(signs).logits, model(signs).logits)


def test_a_saved_network_keeps_its_sizes(tmp_path: Path) -> None:
    network(input_size=7, width=30).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.input_size, config.width, config.hidden_size) == ("parity_mlp", 7, 30, 30)


def test_registering_twice_is_no_error() -> None:
    register_parity_mlp()
    register_parity_mlp()
    assert isinstance(AutoConfig.for_model("parity_mlp", width=3), ParityMlpConfig)


def test_the_hidden_layer_is_returned_only_when_asked_and_behind_the_relu(signs: torch.Tensor) -> None:
    model = network(width=20)
    assert model(signs).hidden_states is None
    (hidden,) = model(signs, output_hidden_states=True).hidden_states
    assert hidden.shape == (16, 20)
    assert torch.equal(hidden, model.layers[0](signs))


def test_a_tuple_that_is_asked_for_comes(signs: torch.Tensor) -> None:
    model = network(width=20)
    (logits,) = model(signs, return_dict=False)
    assert torch.equal(logits, model(signs).logits)
