"""A transformers model in two parts: the body, and the head's linear layer that tiles stand in for.

No model needs code of its own: what the last linear layer is given is caught where the model calls it, after whatever
it does before (BERT's transform, Llama's final norm, T5's scaling).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_distill.kernels.head_rows import HeadRows

Answer = TypeVar("Answer")

MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
DIVISORS = ("logits_scaling",)
SOFTCAPS = ("final_logit_softcapping",)
FINAL_BIAS = "final_logits_bias"
"""A buffer of the BART family that is added behind the head."""

SHARDED_BY_DEEPSPEED = "ds_tensor"
"""An attribute of parameters under ZeRO-3."""


class Head(NamedTuple):
    """The linear layer of a head and what the model does to its output.

    Shapes: `weight_VH` (V, H), `bias_V` (V,).
    """

    weight_VH: Tensor
    bias_V: Tensor | None
    scale: float
    softcap: float | None

    def rows(self, hidden_RH: Tensor) -> HeadRows:
        """Put rows in front of the head. Shapes: (R, H)."""
        return HeadRows(
            hidden_RH=hidden_RH,
            weight_VH=self.weight_VH,
            bias_V=self.bias_V,
            scale=self.scale,
            softcap=self.softcap,
        )


class SplitHead:
    """Runs a model up to its head and hands over what the head would have read.

    Args:
        model: A transformers model with a vocabulary head, as it is or in wrappers (DistributedDataParallel, PEFT).

    Raises:
        ValueError: There is no such model in it, or it has no output embeddings.
    """

    def __init__(self, model: nn.Module) -> None:
        inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
        if inner is None:
            raise ValueError(f"{type(model).__name__} holds no transformers model whose head could be split off")
        module = inner.get_output_embeddings()
        # An adapter's wrapper around the head holds several linear layers; which of them is called, the forward shows.
        self._linears = [] if module is None else [part for part in module.modules() if isinstance(part, nn.Linear)]
        if not self._linears:
            raise ValueError(
                f"{type(inner).__name__} has no output embeddings that are a linear layer, so its logits cannot be "
                "computed in tiles; use its whole logits"
            )
        self._name = type(inner).__name__
        self._scale, self._softcap = after_head(inner.config)
        self._final_bias = dict(inner.named_buffers(recurse=False)).get(FINAL_BIAS)
        self._verified = False

    def read(self, call: Callable[[], Any], at_head: Callable[[Tensor, Head], Answer]) -> Answer:
        """Run a forward and return what `at_head` makes of the head's input.

        `at_head` runs inside the forward, where the head is called: under the forward's autocast, and while engines
        that shard parameters hold this one whole. The model's own logits are computed for the first position alone;
        at the first forward they are compared with ours.

        Args:
            call: Runs the model, through its wrapper, and returns its output with `logits`.
            at_head: Gets the hidden states of all positions and the head; select the rows that count in it. Under
                ZeRO-3 it has to return the loss itself, which is then bound to the model's output.

        Raises:
            ValueError: The forward calls the head not once, or through an adapter, or changes its logits afterwards
                in a way that is not known here.
        """
        answers: list[Answer] = []
        expected: list[Tensor] = []

        def catch(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
            hidden = inputs[0]
            if answers:
                raise ValueError(
                    f"{self._name} calls its head more than once in a forward, or through an adapter on the head; use "
                    "its whole logits, or leave the head out of the adapter's target modules"
                )
            head = self._head(module)
            first = hidden[tuple(slice(0, 1) for _ in range(hidden.dim() - 1))]
            if not self._verified:
                with torch.no_grad():
                    expected.append(head.rows(first.reshape(1, -1)).logits())
            answers.append(at_head(hidden, head))
            return (first,)

        handles = [linear.register_forward_pre_hook(catch) for linear in self._linears]
        try:
            output = call()
        finally:
            for handle in handles:
                handle.remove()
        if not answers:
            raise ValueError(f"the forward of {self._name} never called its output embeddings; use its whole logits")
        if expected:
            self._verify(output.logits, expected[0])
        return self._behind_the_output(answers[0], output.logits)

    def _behind_the_output(self, answer: Answer, logits: Tensor) -> Answer:
        # ZeRO-3 gathers a module's weights for the backward when a gradient arrives at the module's output, so one has
        # to arrive there. Elsewhere it would only cost a gradient of zeros as large as the head.
        sharded = any(SHARDED_BY_DEEPSPEED in vars(linear._parameters["weight"]) for linear in self._linears)
        if not sharded or not isinstance(answer, Tensor) or not answer.requires_grad:
            return answer
        return _Behind.apply(answer, logits)

    def _head(self, module: nn.Module) -> Head:
        parameters = module._parameters
        weight, bias = parameters["weight"], parameters.get("bias")
        if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point():
            raise ValueError(f"the head of {self._name} is quantised; load it with the head in floating point")
        if self._final_bias is not None:
            final_V = self._final_bias[0].to(weight.device, weight.dtype)
            bias = final_V if bias is None else bias + final_V
        return Head(weight, bias, self._scale, self._softcap)

    def _verify(self, logits: Tensor, expected_1V: Tensor) -> None:
        found_1V = logits.detach().reshape(-1, logits.shape[-1])
        wide = torch.promote_types(found_1V.dtype, expected_1V.dtype)
        tolerance = 0.05 if torch.finfo(expected_1V.dtype).bits < 32 else 1e-3
        same = found_1V.shape == expected_1V.shape and torch.allclose(
            found_1V.to(wide), expected_1V.to(wide), rtol=tolerance, atol=tolerance * float(expected_1V.abs().mean())
        )
        if not same:
            raise ValueError(
                f"{self._name} does something to its logits after the head that is not a scale, a soft cap or a bias "
                f"(assumed: scale {self._scale:g}, soft cap {self._softcap}); use its whole logits"
            )
        self._verified = True


class _Behind(torch.autograd.Function):
    """The first argument, with a graph that passes the second one by."""

    @staticmethod
    def forward(ctx: Any, answer: Tensor, passed: Tensor) -> Tensor:
        ctx.save_for_backward(passed)
        return answer.view_as(answer)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, torch.zeros_like(ctx.saved_tensors[0])


def split_head(model: nn.Module) -> SplitHead:
    """Return a model's body and head apart; see `SplitHead`."""
    return SplitHead(model)


def after_head(config: PreTrainedConfig) -> tuple[float, float | None]:
    """Return the multiplier and the soft cap that a configuration puts behind the head: 1 and None for most models."""
    fields = {**config.to_dict(), **config.get_text_config().to_dict()}
    scale = 1.0
    for name in MULTIPLIERS:
        scale *= _number(fields.get(name))
    for name in DIVISORS:
        scale /= _number(fields.get(name))
    cap = next((fields[name] for name in SOFTCAPS if fields.get(name)), None)
    return scale, None if cap is None else float(cap)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and value else 1.0
