"""The two-layer ReLU network of the sparse parity experiments, as a model that `transformers` saves and loads."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class ParityMlpConfig(PreTrainedConfig):
    """Sizes of a `ParityMlpForSequenceClassification`: coordinates of the input and units of the hidden layer."""

    model_type = "parity_mlp"
    attribute_map: ClassVar[dict[str, str]] = {"hidden_size": "width"}

    input_size: int = 50
    width: int = 100
    num_hidden_layers: int = 1


class ParityMlpForSequenceClassification(PreTrainedModel):
    """Linear(input_size, width) - ReLU - Linear(width, labels), with biases and PyTorch's default initial weights.

    Source: Panigrahi et al. 2024 (arXiv 2410.05464), section on sparse parity.
    """

    config_class = ParityMlpConfig
    base_model_prefix = ""
    main_input_name = "inputs"

    def __init__(self, config: ParityMlpConfig) -> None:
        super().__init__(config)
        # A list of one, as in every transformer: what reads or counts layers finds the hidden layer there.
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(config.input_size, config.width), nn.ReLU())])
        assert config.num_labels is not None
        self.output = nn.Linear(config.width, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # The base class would draw from N(0, 0.02²) with zero biases: another experiment than the papers'.
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Return logits, the mean cross-entropy where labels are given, and on request the hidden layer.

        Shapes: inputs (B, input_size) of ±1, labels (B,) -> logits (B, labels); hidden_states one tensor (B, width),
        after the ReLU.
        """
        hidden_BW = self.layers[0](inputs)
        logits_BC = self.output(hidden_BW)
        wants_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = SequenceClassifierOutput(
            loss=None if labels is None else nn.functional.cross_entropy(logits_BC.float(), labels),
            logits=logits_BC,
            hidden_states=(hidden_BW,) if wants_hidden else None,
        )
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()


def register_parity_mlp() -> None:
    """Make `AutoConfig` and `AutoModelForSequenceClassification` know "parity_mlp"; harmless when repeated."""
    AutoConfig.register(ParityMlpConfig.model_type, ParityMlpConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(ParityMlpConfig, ParityMlpForSequenceClassification, exist_ok=True)


# Without this, `from_pretrained` on a saved parity student would not know its architecture.
register_parity_mlp()
