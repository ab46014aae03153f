"""The layers of a model: where they are, and what they say in a forward that may end after the deepest one asked for.

Shape legend: B examples, T positions, H width. The layers of a convolutional network are its stages; a feature map has
T = height · width positions. The layers of a model with an encoder and a decoder are its encoder's, whose positions
are those of the text that is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


class _Enough(Exception):
    """Raised inside a forward once the deepest layer asked for has spoken."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def layers_of(model: nn.Module) -> nn.ModuleList:
    """Return the stack of layers of a model, shallow to deep.

    It is the outermost list of as many modules as the configuration has layers: lists inside of a layer (a mixture's
    experts) may be longer. Of a model with an encoder and a decoder it is the encoder's.

    Raises:
        ValueError: The model has no such list, as where all layers share one module; or several for its stages.
    """
    named = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    count = layer_count(named.config) if named is not None else 0
    within = named.get_encoder() if named is not None and named.config.is_encoder_decoder else model
    lists = [module for module in within.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if lists and (named is None or not _has_stages(named.config) or set(lists) <= set(lists[0].modules())):
        return lists[0]
    if lists:
        raise ValueError(
            f"{type(model).__name__} keeps its {count} stages in several lists of modules, so their outputs cannot be "
            "read; use a curriculum that compares logits only, or an architecture such as resnet, convnext or vit"
        )
    raise ValueError(
        f"{type(model).__name__} keeps its layers in no nn.ModuleList of num_hidden_layers = {count} modules, so "
        "their hidden states cannot be read; use a curriculum that compares logits only"
    )


def layer_count(config: PreTrainedConfig) -> int:
    """Return the number of layers that a configuration names: of stages, where it names their depths; of the encoder,
    where there is one beside a decoder.

    Raises:
        ValueError: It names none.
    """
    if _has_stages(config):
        return len(vars(config)["depths"])
    try:
        return int(_text_config(config).num_hidden_layers)
    except AttributeError:
        raise ValueError(
            f"{type(config).__name__} names no num_hidden_layers; hidden states cannot be mapped"
        ) from None


def hidden_width(config: PreTrainedConfig, layer: int | None = None) -> int:
    """Return the width of a model's hidden states.

    Args:
        config: The model's.
        layer: Whose width, counted from 1: stages differ. None where all layers must have one width.

    Raises:
        ValueError: The configuration names none, or several and no layer is given.
    """
    if _has_stages(config):
        widths = vars(config).get("hidden_sizes")
        if not widths:
            raise ValueError(f"{type(config).__name__} names no hidden_sizes; its stages cannot be projected")
        if layer is None and len(set(widths)) > 1:
            raise ValueError(
                f"the stages of {type(config).__name__} have widths {list(widths)}, where one width is needed; use "
                "equal hidden_sizes, or pkt or similarity_preserving, which need no widths"
            )
        return int(widths[(layer or 1) - 1])
    try:
        return int(_text_config(config).hidden_size)
    except AttributeError:
        raise ValueError(f"{type(config).__name__} names no hidden_size; hidden states cannot be projected") from None


def _text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    return config.get_text_config(encoder=True) if config.is_encoder_decoder else config.get_text_config()


def _has_stages(config: PreTrainedConfig) -> bool:
    return bool(vars(config).get("depths"))


@contextmanager
def layer_tap(model: nn.Module, numbers: Sequence[int], *, stop: bool) -> Iterator[dict[int, Tensor]]:
    """Read the outputs of some layers of every forward within the context.

    Call the model through its wrapper as usual. With `stop`, the forward of `model` itself returns the output of the
    deepest of the layers, so that neither the layers behind it nor the head are computed; a wrapper such as
    DistributedDataParallel sees an ordinary forward, and from its output which parameters took part.

    A layer's output is what `output_hidden_states` gives, but for the last layer of a model with a final norm (GPT-2,
    Llama): transformers gives it after that norm, this before it. The feature map (B, H, height, width) of a
    stage is given as (B, height · width, H).

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
                outputs[number] = _by_position(output if isinstance(output, Tensor) else output[0])
                if stop and number == deepest:
                    raise _Enough(outputs[number])

            undo.callback(stack[number - 1].register_forward_hook(keep).remove)
        if stop:
            undo.enter_context(_ending_early(model))
        yield outputs


def _by_position(output: Tensor) -> Tensor:
    """Return a layer's output with its positions in a row. Shapes: (B, H, height, width) -> (B, T, H); others stay."""
    return output.flatten(2).transpose(1, 2) if output.dim() == 4 else output


@contextmanager
def _ending_early(model: nn.Module) -> Iterator[None]:
    """Let `model.forward` end quietly when a layer has raised `_Enough`."""
    forward = model.forward

    def shortened(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        except _Enough as reached:
            return reached.output

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


def check_early_exit(accelerator: Accelerator) -> None:
    """Refuse an engine that cannot follow a forward that ends early.

    Raises:
        ValueError: DeepSpeed or FSDP, whose hooks around each layer must run to the end; or DistributedDataParallel
            that does not look for parameters without a gradient.
    """
    engine = accelerator.distributed_type
    if engine in (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM):
        raise ValueError(
            "stages on hidden layers end a forward early and train read-outs outside the student, which "
            f"{engine.value} does not follow; train this curriculum with DistributedDataParallel, without that engine"
        )
    ddp = accelerator.ddp_handler
    if accelerator.num_processes > 1 and (ddp is None or not ddp.find_unused_parameters):
        raise ValueError(
            "stages on hidden layers leave the layers behind them without gradients, but DistributedDataParallel is "
            "told to expect one for every parameter; set ddp_find_unused_parameters: true"
        )


def attended_rows(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the hidden states of attended positions, one a row.

    Shapes: (B, T, H) with mask (B, T) -> (N, H); (B, H) stays.

    Raises:
        ValueError: The states have other dimensions, or other positions than the mask (a prompt in front).
    """
    if hidden.dim() == 2:
        return hidden
    if hidden.dim() != 3 or (mask is not None and mask.shape != hidden.shape[:2]):
        raise ValueError(
            f"hidden states have shape {tuple(hidden.shape)} and the attention mask "
            f"{None if mask is None else tuple(mask.shape)}; expected (B, T, H) and (B, T). Use a curriculum that "
            "compares logits only"
        )
    return hidden.flatten(0, 1) if mask is None else hidden[mask.bool()]
