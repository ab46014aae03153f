"""One forward of a model with what objectives want to see of it: logits, some layers' outputs, attentions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from torch import Tensor, nn

from hf_distill.models.outputs import logits_of
from hf_distill.reading.layers import layer_tap


class Wanted(NamedTuple):
    """What the terms of a step look at beside the logits: layers counted from 1, and whether attentions."""

    student: tuple[int, ...] = ()
    teacher: tuple[int, ...] = ()
    attentions: bool = False

    @property
    def anything(self) -> bool:
        """Whether more than logits is wanted."""
        return bool(self.student) or self.attentions


class Reading(NamedTuple):
    """What one forward gave.

    Shapes: `logits` as `logits_of` gives them; `hidden` (B, T, H) or (B, H) by layer number, counted from 1;
    `attentions` (B, A, T, T), one a layer in order, or empty.
    """

    logits: Tensor
    hidden: dict[int, Tensor]
    attentions: tuple[Tensor, ...] = ()

    def chunk(self, count: int) -> list[Reading]:
        """Return the reading of each of `count` equal parts of the batch."""
        return [
            Reading(
                logits,
                {layer: states.chunk(count)[part] for layer, states in self.hidden.items()},
                tuple(attention.chunk(count)[part] for attention in self.attentions),
            )
            for part, logits in enumerate(self.logits.chunk(count))
        ]


def read_model(
    call: Callable[..., Any],
    model: nn.Module,
    *,
    layers: tuple[int, ...] = (),
    attentions: bool = False,
    mask: Tensor | None = None,
) -> Reading:
    """Run one whole forward and keep what it says on the way.

    Of a model with an encoder and a decoder, the attentions are the encoder's, as its layers are.

    Args:
        call: Runs the model, through its wrapper; takes further arguments of the forward.
        model: The unwrapped model.
        layers: Whose outputs to keep, counted from 1; `output_hidden_states` would keep all of them.
        attentions: Also ask for the attention probabilities.
        mask: Attended positions, where there is a mask.

    Raises:
        ValueError: The model has fewer layers.
    """
    tap: AbstractContextManager[dict[int, Tensor]]
    tap = layer_tap(model, layers, stop=False) if layers else nullcontext({})
    with tap as hidden:
        output = call(**({"output_attentions": True} if attentions else {}))
    return Reading(logits_of(output, mask), dict(hidden), _attentions_of(output) if attentions else ())


def _attentions_of(output: Any) -> tuple[Tensor, ...]:
    return tuple(output["encoder_attentions" if "encoder_attentions" in output else "attentions"])
