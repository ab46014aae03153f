"""What of its teacher a student keeps, as a recipe or the command line says it. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from hf_distill.wording import did_you_mean, given

How = Literal["first", "last", "spaced", "cka", "sensitivity"]
Choose = Literal["first", "norm", "sensitivity"]
FROM_DATA = ("cka", "sensitivity")
"""Choices that look at what the teacher does with data."""
_LAYERS_HELP = (
    "first:3, last:3, spaced:3 (evenly, the last one included), cka:3 (those that change the hidden states most), "
    "sensitivity:3 (those whose weights the loss feels most), or numbers counted from 1; null: all"
)


@dataclass(frozen=True)
class LayerRule:
    """Which layers of a stack stay: so many by a rule, or these."""

    how: How | None
    count: int
    numbers: tuple[int, ...] = ()

    @property
    def from_data(self) -> bool:
        """Whether the rule looks at what the teacher does with data."""
        return self.how in FROM_DATA


@dataclass(kw_only=True)
class StudentCut:
    """What of its teacher a student keeps; what is not named stays whole."""

    layers: str | list[int] | None = field(
        default=None, metadata={"help": f"{_LAYERS_HELP}. Of an encoder-decoder: of both."}
    )
    decoder_layers: str | list[int] | None = field(
        default=None, metadata={"help": "Of an encoder-decoder's decoder, where it is not `layers`."}
    )
    hidden_size: int | None = field(default=None, metadata={"help": "Width of the hidden states."})
    num_attention_heads: int | None = field(
        default=None, metadata={"help": "Heads of a layer; each keeps its size, groups of one key stay whole."}
    )
    intermediate_size: int | None = field(default=None, metadata={"help": "Neurons of a feed-forward layer."})
    choose: Choose = field(
        default="first",
        metadata={
            "help": "Which units of a narrower student stay: the first, those with the largest weights (norm), or "
            "those whose weights the loss feels most (sensitivity)."
        },
    )
    examples: int = field(
        default=256, metadata={"help": "Training examples that `cka` and `sensitivity` look at, the first ones."}
    )

    def __post_init__(self) -> None:
        self.rules()
        for key in ("hidden_size", "num_attention_heads", "intermediate_size", "examples"):
            value = vars(self)[key]
            if value is not None and value < 1:
                raise ValueError(f"{key}: expected at least 1, got {value}")

    def rules(self) -> tuple[LayerRule | None, LayerRule | None]:
        """Return which layers stay, of an encoder (or the only stack) and of a decoder; None: all.

        Raises:
            ValueError: A rule that cannot be read.
        """
        first = read_layers(self.layers, "layers")
        return first, first if self.decoder_layers is None else read_layers(self.decoder_layers, "decoder_layers")

    @property
    def narrows(self) -> bool:
        """Whether a width is named."""
        return any(width is not None for width in (self.hidden_size, self.num_attention_heads, self.intermediate_size))

    @property
    def uses_cka(self) -> bool:
        """Whether layers are chosen by the similarity of their states."""
        return any(rule is not None and rule.how == "cka" for rule in self.rules())

    @property
    def uses_sensitivity(self) -> bool:
        """Whether layers or units are chosen by the loss's sensitivity."""
        layers = any(rule is not None and rule.how == "sensitivity" for rule in self.rules())
        return layers or (self.narrows and self.choose == "sensitivity")

    @property
    def needs_data(self) -> bool:
        """Whether the choice looks at what the teacher does with data."""
        return self.uses_cka or self.uses_sensitivity


def read_layers(value: str | list[int] | None, path: str) -> LayerRule | None:
    """Read `spaced:3` or a list of layers counted from 1; None stays None.

    Raises:
        ValueError: Neither, or numbers that repeat or do not rise.
    """
    if value is None:
        return None
    if isinstance(value, str):
        how, colon, count = value.partition(":")
        if how not in get_args(How):
            hint = did_you_mean(how, get_args(How))
            raise ValueError(f"{path}: {given(value)} is no choice of layers.{hint} {_expected()}")
        if not colon or not count.strip().isdecimal() or int(count) < 1:
            raise ValueError(f"{path}: {given(value)} does not say how many layers stay. {_expected()}")
        return LayerRule(how, int(count))  # type: ignore[arg-type]
    if not value or min(value) < 1:
        raise ValueError(f"{path}: {given(value)} names no layer, or one below 1: layers are counted from 1")
    if value != sorted(set(value)):
        raise ValueError(
            f"{path}: {given(value)} repeats a layer or changes the order; list them from shallow to deep"
        )
    return LayerRule(None, len(value), tuple(value))


def _expected() -> str:
    rules = ", ".join(f"{how}:3" for how in get_args(How))
    return f"Write one of {rules}, or the numbers of the layers, counted from 1: [2, 4, 6]."
