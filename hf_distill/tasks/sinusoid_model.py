"""The models of the noisy-sinusoid toy of Continuation-KD: a fixed function as the teacher, an MLP as the student.

Shape legend: B examples.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class SinusoidMlpConfig(PreTrainedConfig):
    """Sizes of a `SinusoidMlpForSequenceClassification`: units of each hidden layer, and how many there are."""

    model_type = "sinusoid_mlp"

    hidden_size: int = 128
    num_hidden_layers: int = 2
    problem_type: str | None = "regression"


class NoisySinusoidConfig(PreTrainedConfig):
    """Numbers of a `NoisySinusoidForSequenceClassification`: periods in x from 0 to 1, and the noise's amplitude."""

    model_type = "noisy_sinusoid"

    signal_frequency: float = 1.0
    noise_frequency: float = 3.0
    noise_amplitude: float = 0.3
    problem_type: str | None = "regression"


class _Function(PreTrainedModel):
    """A scalar function of `inputs`; sub-classes say which."""

    base_model_prefix = ""
    main_input_name = "inputs"

    def of(self, inputs_B1: Tensor) -> Tensor:
        """Return the function's values.

        Shapes: (B, 1) -> (B, 1).
        """
        raise NotImplementedError

    def forward(
        self, inputs: Tensor, labels: Tensor | None = None, return_dict: bool | None = None
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Return the values as logits, and the mean squared error where labels are given.

        Shapes: inputs (B, 1), labels (B,) -> logits (B, 1).
        """
        logits_B1 = self.of(inputs)
        loss = None if labels is None else nn.functional.mse_loss(logits_B1.squeeze(-1).float(), labels.float())
        output = SequenceClassifierOutput(loss=loss, logits=logits_B1)
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()


class SinusoidMlpForSequenceClassification(_Function):
    """1 - 128 - ReLU - 128 - ReLU - 1, with biases and PyTorch's default initial weights.

    Source: Jafari et al. 2022 (arXiv 2212.05998) for the sizes; the activation is not given there (our instantiation).
    """

    config_class = SinusoidMlpConfig

    def __init__(self, config: SinusoidMlpConfig) -> None:
        super().__init__(config)
        widths = [1, *[config.hidden_size] * config.num_hidden_layers]
        pairs = pairwise(widths)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(one, two), nn.ReLU()) for one, two in pairs])
        self.output = nn.Linear(widths[-1], 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # The base class would draw from N(0, 0.02²), with which so small a network hardly begins to learn.
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def of(self, inputs_B1: Tensor) -> Tensor:
        """Run the layers."""
        hidden = inputs_B1
        for layer in self.layers:
            hidden = layer(hidden)
        return self.output(hidden)


class NoisySinusoidForSequenceClassification(_Function):
    """sin(2π·f·x) plus a fast sinusoid that stands for the teacher's noise; its only parameters are the amplitudes."""

    config_class = NoisySinusoidConfig

    def __init__(self, config: NoisySinusoidConfig) -> None:
        super().__init__(config)
        self.amplitudes = nn.Parameter(torch.tensor([1.0, config.noise_amplitude]))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the amplitudes of the configuration."""

    def of(self, inputs_B1: Tensor) -> Tensor:
        """Add signal and noise, each with its amplitude."""
        frequencies = inputs_B1.new_tensor([self.config.signal_frequency, self.config.noise_frequency])
        return (self.amplitudes * torch.sin(2.0 * math.pi * frequencies * inputs_B1)).sum(-1, keepdim=True)


def register_sinusoid_models() -> None:
    """Make `AutoConfig` and `AutoModelForSequenceClassification` know both architectures; harmless when repeated."""
    for config, model in (
        (SinusoidMlpConfig, SinusoidMlpForSequenceClassification),
        (NoisySinusoidConfig, NoisySinusoidForSequenceClassification),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForSequenceClassification.register(config, model, exist_ok=True)


# Without this, `from_pretrained` on a saved student would not know its architecture.
register_sinusoid_models()
