"""Which of a teacher's layers a student keeps, counted from 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedConfig

from hf_distill.reading.extractor import uniform_map
from hf_distill.student_making.cut import LayerRule, StudentCut
from hf_distill.student_making.families import family_of
from hf_distill.student_making.sizes import sizes_of

Layers = dict[str, list[int]]
"""Name of a stack to the layers of it that stay, counted from 1."""
Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""`cka` or `sensitivity`, then name of a stack, to what each of its layers is worth."""


def kept_layers(config: PreTrainedConfig, cut: StudentCut, scores: Scores | None = None) -> Layers:
    """Return the layers of each stack that stay.

    Args:
        config: The teacher's.
        cut: What is asked for.
        scores: What layers are worth by the data. Without them, layers to be chosen by the data are stood for by
            evenly spaced ones, as many.

    Raises:
        ValueError: More layers than there are, or layers that cannot change their places.
    """
    family, sizes = family_of(config), sizes_of(config)
    of_first, of_decoder = cut.rules()
    kept: Layers = {}
    for name, size in sizes.stacks.items():
        rule = of_decoder if name == "decoder" else of_first
        key = "decoder_layers" if name == "decoder" and cut.decoder_layers is not None else "layers"
        known = scores[rule.how][name] if scores is not None and rule is not None and rule.from_data else None  # type: ignore[index]
        kept[name] = choose_layers(rule, size.layers, key=key, what=name, worth=known)
    if cut.decoder_layers is not None and "decoder" not in kept:
        raise ValueError(
            f"decoder_layers: a {config.model_type!r} model has one stack of layers; say which stay with `layers`"
        )
    if family.by_place is not None and config.to_dict().get(family.by_place):
        _refuse_other_places(kept, family.by_place)
    return kept


def choose_layers(
    rule: LayerRule | None,
    there: int,
    *,
    key: str = "layers",
    what: str = "layers",
    worth: Sequence[float] | None = None,
) -> list[int]:
    """Return the layers that a rule keeps, shallow to deep.

    Args:
        rule: None keeps all.
        there: How many layers there are.
        key: Of the rule, for messages.
        what: The stack's name, for messages.
        worth: Of each layer, for `cka` and `sensitivity`; of equal ones the shallower stays.

    Raises:
        ValueError: The rule asks for more layers than there are.
    """
    if rule is None:
        return list(range(1, there + 1))
    most = rule.numbers[-1] if rule.how is None else rule.count
    if most > there:
        stack = "" if what == "layers" else f" of the {what}"
        raise ValueError(f"{key}: asks for {most} layers{stack}, but there are {there}")
    if rule.how is None:
        return list(rule.numbers)
    if rule.how == "first":
        return list(range(1, rule.count + 1))
    if rule.how == "last":
        return list(range(there - rule.count + 1, there + 1))
    if rule.how == "spaced" or worth is None:
        return [pair.teacher for pair in uniform_map(rule.count, there)]
    best = sorted(range(there), key=lambda place: -worth[place])[: rule.count]
    return sorted(place + 1 for place in best)


def _refuse_other_places(kept: Layers, key: str) -> None:
    for layers in kept.values():
        if layers != list(range(1, len(layers) + 1)):
            raise ValueError(
                f"layers: with {key} a layer's attention depends on its place, so that only the first ones can stay; "
                f"write first:{len(layers)}"
            )
