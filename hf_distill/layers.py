"""The layers of a model: where they are, and what they say in a forward that may end after the deepest one asked for.

Shape legend: B examples, T positions, H width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig


class _Enough(Exception):
    """Raised inside a forward once the deepest layer asked for has spoken."""


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the stack of layers of a model, shallow to deep.

    It is the longest list of modules of one class; of two equally long ones the first.

    Raises:
        ValueError: The model has no list of layers.
    """
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(layer) for layer in module}) == 1
    ]
    if not stacks:
        raise ValueError(
            f"{type(model).__name__} keeps its layers in no nn.ModuleList, so their hidden states cannot be read; "
            "use a curriculum that compares logits only"
        )
    return max(stacks, key=len)


def layer_count(config: PreTrainedConfig) -> int:
    """Return the number of layers that a configuration names.

    Raises:
        ValueError: It names none.
    """
    try:
        return int(config.get_text_config().num_hidden_layers)
    except AttributeError:
        raise ValueError(
            f"{type(config).__name__} names no num_hidden_layers; hidden states cannot be mapped"
        ) from None


def hidden_width(config: PreTrainedConfig) -> int:
    """Return the width of a model's hidden states.

    Raises:
        ValueError: The configuration names none.
    """
    try:
        return int(config.get_text_config().hidden_size)
    except AttributeError:
        raise ValueError(f"{type(config).__name__} names no hidden_size; hidden states cannot be projected") from None


@contextmanager
def layer_tap(model: nn.Module, numbers: Sequence[int], *, stop: bool) -> Iterator[dict[int, Tensor]]:
    """Read the outputs of some layers of every forward within the context.

    Call the model through its wrapper as usual. With `stop`, the forward of `model` itself returns None after the
    deepest of the layers, so that neither the layers behind it nor the head are computed; a wrapper such as
    DistributedDataParallel sees an ordinary forward.

    Args:
        model: The unwrapped model.
        numbers: Layers, counted from 1.
        stop: End the forward after the deepest one.

    Yields:
        The outputs by layer number, (B, T, H) or (B, H); each forward replaces them.

    Raises:
        ValueError: The model has fewer layers.
    """
    stack = layers_of(model)
    if not numbers or not 1 <= min(numbers) <= max(numbers) <= len(stack):
        raise ValueError(f"layers {list(numbers)} asked for, but {type(model).__name__} has layers 1 to {len(stack)}")
    outputs: dict[int, Tensor] = {}
    deepest = max(numbers)
    with ExitStack() as undo:
        for number in numbers:

            def keep(module: nn.Module, inputs: Any, output: Any, number: int = number) -> None:
                outputs[number] = output if isinstance(output, Tensor) else output[0]
                if stop and number == deepest:
                    raise _Enough

            undo.callback(stack[number - 1].register_forward_hook(keep).remove)
        if stop:
            undo.enter_context(_ending_early(model))
        yield outputs


@contextmanager
def _ending_early(model: nn.Module) -> Iterator[None]:
    """Let `model.forward` end quietly when a layer has raised `_Enough`."""
    forward = model.forward

    def shortened(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        except _Enough:
            return None

    # An entry in the instance's own dictionary shadows the class's forward; removing it restores the class's.
    shadowed = "forward" in model.__dict__
    model.forward = shortened
    try:
        yield
    finally:
        if shadowed:
            model.forward = forward
        else:
            del model.__dict__["forward"]


def attended_rows(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the hidden states of attended positions, one a row.

    Shapes: (B, T, H) with mask (B, T) -> (N, H); (B, H) stays.
    """
    if hidden.dim() == 2:
        return hidden
    return hidden.flatten(0, 1) if mask is None else hidden[mask.bool()]
