"""What a teacher does with data, for the choice of its layers and units: how far each layer changes the hidden states,
and how much the loss feels each weight.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_distill.analysis.layer_similarity import LayerSimilarityTally
from hf_distill.analysis.sensitivity import parameter_sensitivity
from hf_distill.reading.layers import attended_rows
from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.families import Stack, family_of
from hf_distill.student_making.names import WeightName, layers_at

Batch = Mapping[str, Any]


class Evidence(NamedTuple):
    """What was seen.

    Attributes:
        layers: `cka` or `sensitivity`, then name of a stack, to what each of its layers is worth.
        sensitivity: |θ · ∂L/∂θ| of each parameter, where it was asked for.
    """

    layers: dict[str, dict[str, list[float]]]
    sensitivity: dict[str, Tensor] | None


def gather_evidence(
    teacher: PreTrainedModel, cut: StudentCut, batches: Sequence[Batch], *, on_batch: Callable[[], None] | None = None
) -> Evidence:
    """Look at what a cut asks to be looked at.

    Args:
        teacher: In any mode; it is asked in eval mode, and its mode is as before afterwards.
        cut: What is asked for.
        batches: With labels where sensitivity is asked for, on the teacher's device.
        on_batch: Called whenever a batch has gone through the teacher.

    Raises:
        ValueError: No batches, batches without labels, or too few rows.
    """
    if not batches:
        raise ValueError("there is no data to choose layers or units by: the data is empty")
    advance = on_batch or _nothing
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()
    try:
        layers, sensitivity = {}, None
        if cut.uses_cka:
            layers["cka"] = _changes(teacher, batches, advance)
        if cut.uses_sensitivity:
            sensitivity = parameter_sensitivity(teacher, batches, lambda batch: _loss(teacher, batch, advance)).raw
            layers["sensitivity"] = _sums(teacher, sensitivity)
        return Evidence(layers, sensitivity)
    finally:
        for module, training in modes:
            module.training = training


def forwards_of(cut: StudentCut, batches: int) -> int:
    """Return how many batches go through the teacher for a cut."""
    return batches * (cut.uses_cka + cut.uses_sensitivity)


@torch.no_grad()
def _changes(
    teacher: PreTrainedModel, batches: Sequence[Batch], advance: Callable[[], None]
) -> dict[str, list[float]]:
    """Return 1 − CKA of what goes into and what comes out of each layer, over attended positions.

    Source: a layer whose output is nearly its input can go (ShortGPT, arXiv 2403.03853, which compares by cosine); CKA
    in its place is our instantiation.
    """
    stacks = {name: stack for name, stack in family_of(teacher.config).stacks.items() if layers_at(teacher, stack)}
    tallies = {name: LayerSimilarityTally() for name in stacks}
    for batch in batches:
        states: dict[str, list[Tensor]] = {name: [] for name in stacks}
        with ExitStack() as undo:
            for name, stack in stacks.items():
                _tap(layers_at(teacher, stack), states[name], undo)
            teacher(**_accepted(teacher, batch))
        for name, of_stack in states.items():
            mask = _mask(batch, decoder=name == "decoder")
            rows = [attended_rows(state, mask) for state in of_stack]
            tallies[name].add(rows, rows)
        advance()
    found = {}
    for name, tally in tallies.items():
        alike = tally.info().similarity
        beside = [alike[place][place + 1] for place in range(len(alike) - 1)]
        # A layer on states that never vary changes nothing that could be seen.
        found[name] = [1.0 - value if math.isfinite(value) else 0.0 for value in beside]
    return found


def _tap(layers: Sequence[nn.Module], states: list[Tensor], undo: ExitStack) -> None:
    """Collect what goes into the first layer and what comes out of each."""

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states.append(output if isinstance(output, Tensor) else output[0])

    undo.callback(layers[0].register_forward_pre_hook(before, with_kwargs=True).remove)
    for layer in layers:
        undo.callback(layer.register_forward_hook(after).remove)


def _mask(batch: Batch, *, decoder: bool) -> Tensor | None:
    if not decoder:
        return batch.get("attention_mask")
    labels = batch.get("labels")
    return batch.get("decoder_attention_mask", None if labels is None else labels != IGNORE_INDEX)


def _sums(teacher: PreTrainedModel, sensitivity: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Return the sensitivity of each layer's weights, those left out that serve all layers."""
    family = family_of(teacher.config)
    found = {name: [0.0] * len(layers_at(teacher, stack)) for name, stack in family.stacks.items()}
    for full_name, values in sensitivity.items():
        name = WeightName.of(full_name, teacher, family)
        if name.stack is not None and name.layer is not None and not _serves_all(name, family.stacks[name.stack]):
            found[name.stack][name.layer - 1] += values.sum(dtype=torch.float64).item()
    return found


def _serves_all(name: WeightName, stack: Stack) -> bool:
    return name.rest == stack.first_only


def _loss(teacher: PreTrainedModel, batch: Batch, advance: Callable[[], None]) -> Tensor:
    loss = teacher(**_accepted(teacher, batch)).loss
    if loss is None:
        raise ValueError(
            f"sensitivity needs the loss of labels, and the batches have only {', '.join(batch)}; choose by first, "
            "last, spaced, cka or norm"
        )
    advance()
    return loss


def _accepted(teacher: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    known = inspect.signature(teacher.forward).parameters
    return {key: value for key, value in batch.items() if key in known}


def _nothing() -> None:
    pass
