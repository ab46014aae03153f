"""How large a model is, in the numbers that memory and arithmetic follow from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from hf_distill.tasks.model_building import config_value
from hf_distill.teachers.sharding import whole_numel


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Size of a model.

    Attributes:
        parameters: All, shared ones once.
        multiplied: Those that a token is multiplied with: all but embeddings that are only looked up.
        weight_bytes: In memory, in their own number format.
        hidden: Width of the head's input, 0 where there is no head over a vocabulary or the classes.
        outputs: Width of the head: vocabulary or classes; 0 where it has none.
        layers: Transformer layers; 0 where the configuration names none.
        width: Of their hidden states.
    """

    parameters: int
    multiplied: int
    weight_bytes: int
    hidden: int
    outputs: int
    layers: int
    width: int

    @property
    def head(self) -> int:
        """Parameters of the head's last layer, which only the rows that count are multiplied with."""
        return self.hidden * self.outputs

    @property
    def body(self) -> int:
        """Parameters that every position is multiplied with."""
        return self.multiplied - self.head


def model_size(model: PreTrainedModel) -> ModelSize:
    """Return the size of a model, which may be on the meta device, or split over ranks."""
    parameters = list(model.parameters())
    head = model.get_output_embeddings()
    kept = {id(head.weight)} if head is not None else set()
    looked_up = {
        id(module.weight): whole_numel(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding) and id(module.weight) not in kept
    }
    linear = head if isinstance(head, nn.Linear) else _last_linear(model)
    total = sum(map(whole_numel, parameters))
    return ModelSize(
        parameters=total,
        multiplied=total - sum(looked_up.values()),
        weight_bytes=sum(whole_numel(parameter) * parameter.element_size() for parameter in parameters),
        hidden=linear.in_features if linear is not None else 0,
        outputs=linear.out_features if linear is not None else 0,
        layers=int(config_value(model.config, "num_hidden_layers") or 0),
        width=int(config_value(model.config, "hidden_size") or 0),
    )


def _last_linear(model: nn.Module) -> nn.Linear | None:
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return found[-1] if found else None
