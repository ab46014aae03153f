"""Sentences of the cfg3 grammars with their trees: sentence i depends on the stream and on i only.

The grammars are balanced: all children of a non-terminal have the same height, terminals have height 0.
Shape legend: B sentences, L terminals of the longest, N symbols of one height in all sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.pcfg_rules import RULES
from hf_distill.wording import did_you_mean

TERMINALS = "abc"
_MOST_CHILDREN = 3
_CHOICE_BITS = np.uint64(24)

Rules = Mapping[int, tuple[tuple[int, ...], ...]]
"""From a non-terminal to its right sides; the terminals a, b, c are 0, 1, 2."""


@dataclass(frozen=True)
class Grammar:
    """A balanced context-free grammar; the rules of a non-terminal are equally likely.

    Raises:
        ValueError: `root` is no non-terminal, or the grammar is not balanced.
    """

    rules: Rules
    root: int

    def __post_init__(self) -> None:
        if self.root not in self.rules:
            known = ", ".join(map(str, sorted(self.rules)))
            raise ValueError(f"root: {self.root} is no non-terminal of this grammar; it has {known}")
        _ = self._heights

    @classmethod
    def named(cls, name: str, *, root: int = 22) -> Grammar:
        """Return one of the cfg3 grammars, or the part of it below another root.

        Raises:
            ValueError: No such grammar or non-terminal.
        """
        if name not in RULES:
            raise ValueError(f"grammar: unknown {name!r}.{did_you_mean(name, RULES)} Known: {', '.join(RULES)}.")
        return cls(parse_rules(RULES[name]), root)

    @property
    def height(self) -> int:
        """Height of the root: rewritings from it to a terminal."""
        return self._heights[self.root]

    @property
    def shortest(self) -> int:
        """Terminals of the shortest sentence."""
        return min(self._lengths)

    @property
    def longest(self) -> int:
        """Terminals of the longest sentence."""
        return max(self._lengths)

    def symbols_at(self, height: int) -> tuple[int, ...]:
        """Return the symbols of a height that occur in sentences, in ascending order.

        Raises:
            ValueError: `height` is not between 0 and the root's.
        """
        if not 0 <= height <= self.height:
            raise ValueError(f"height: expected 0 (terminals) to {self.height} (the root), got {height}")
        found = {self.root}
        for _ in range(self.height - height):
            found = {child for symbol in found for right in self.rules[symbol] for child in right}
        return tuple(sorted(found))

    @cached_property
    def _heights(self) -> dict[int, int]:
        heights = dict.fromkeys(range(len(TERMINALS)), 0)
        for symbol in sorted(self.rules):
            below = {heights.get(child, -1) for right in self.rules[symbol] for child in right}
            if len(below) != 1 or below == {-1}:
                raise ValueError(
                    f"rules: the children of {symbol} must be of one height and of smaller numbers, so that levels of "
                    "the tree are defined"
                )
            heights[symbol] = below.pop() + 1
        return heights

    @cached_property
    def _lengths(self) -> tuple[int, int]:
        spans = dict.fromkeys(range(len(TERMINALS)), (1, 1))
        for symbol in sorted(self.rules):
            sides = [[spans[child] for child in right] for right in self.rules[symbol]]
            shortest = min(sum(low for low, _ in side) for side in sides)
            spans[symbol] = shortest, max(sum(high for _, high in side) for side in sides)
        return spans[self.root]


class Trees(NamedTuple):
    """The trees of B sentences, height by height from the terminals (0) to the roots.

    `symbols[h]` has the symbols of height h of all sentences, one sentence after the other, and `sizes[h]` how many
    terminals each stands for. Shapes: `symbols[h]` and `sizes[h]` (N,), `lengths` (B,).
    """

    symbols: tuple[NDArray[np.int64], ...]
    sizes: tuple[NDArray[np.int64], ...]
    lengths: NDArray[np.int64]

    def ancestors(self, height: int) -> NDArray[np.int64]:
        """Return for every terminal the symbol of a height it stems from, itself at height 0; -1 behind the end.

        Shapes: (B, L).
        """
        return self._rows(np.repeat(self.symbols[height], self.sizes[height]), fill=-1)

    def ends(self, height: int) -> NDArray[np.bool_]:
        """Return whether a terminal is the last one of a symbol of a height; true throughout at height 0.

        Shapes: (B, L).
        """
        flat = np.zeros(int(self.lengths.sum()), dtype=bool)
        flat[self.sizes[height].cumsum() - 1] = True
        return self._rows(flat, fill=False)

    def _rows(self, flat: NDArray[Any], *, fill: Any) -> NDArray[Any]:
        inside = np.arange(self.lengths.max()) < self.lengths[:, None]
        rows = np.full(inside.shape, fill, dtype=flat.dtype)
        rows[inside] = flat
        return rows


class TreeSampler:
    """Draws trees of a grammar; which rule a node takes depends on the stream, the sentence and the node's place.

    Args:
        grammar: The rules.
        stream: Where the choices come from.
    """

    def __init__(self, grammar: Grammar, stream: CounterStream) -> None:
        self.grammar, self.stream = grammar, stream
        most = max(len(sides) for sides in grammar.rules.values())
        self._children = np.full((max(grammar.rules) + 1, most, _MOST_CHILDREN), -1)
        self._choices = np.zeros(max(grammar.rules) + 1, dtype=np.uint64)
        for symbol, sides in grammar.rules.items():
            self._choices[symbol] = len(sides)
            for place, side in enumerate(sides):
                self._children[symbol, place, : len(side)] = side
        # Of a tree where every node has three children, numbered like a heap.
        self._nodes = (_MOST_CHILDREN**grammar.height - 1) // (_MOST_CHILDREN - 1)

    def sample(self, sentences: NDArray[np.int64]) -> Trees:
        """Return the trees of these sentences.

        Shapes: (B,).
        """
        first = sentences.astype(np.uint64) * np.uint64(self._nodes)
        node = np.zeros_like(first)
        symbols = [np.full(len(sentences), self.grammar.root)]
        fans: list[NDArray[np.int64]] = []
        for _ in range(self.grammar.height):
            children_N3 = self._children[symbols[-1], self._choose(symbols[-1], first + node)]
            there_N3 = children_N3 >= 0
            fans.append(there_N3.sum(axis=1))
            symbols.append(children_N3[there_N3])
            numbers = node[:, None] * np.uint64(_MOST_CHILDREN) + np.arange(1, _MOST_CHILDREN + 1, dtype=np.uint64)
            node, first = numbers[there_N3], np.repeat(first, fans[-1])
        sizes = [np.ones(len(symbols[-1]), dtype=np.int64)]
        for fan in reversed(fans):
            sizes.append(np.add.reduceat(sizes[-1], fan.cumsum() - fan))
        return Trees(tuple(reversed(symbols)), tuple(sizes), sizes[-1])

    def _choose(self, symbols: NDArray[np.int64], counters: NDArray[np.uint64]) -> NDArray[np.int64]:
        bits = self.stream.uint64(counters) >> (np.uint64(64) - _CHOICE_BITS)
        return (bits * self._choices[symbols] >> _CHOICE_BITS).astype(np.int64)


def parse_rules(text: str) -> Rules:
    """Read rules such as `22 -> 21 20 | 20 19`, one non-terminal a line.

    Raises:
        ValueError: A line is no rule, or a right side has no symbol or more than three.
    """
    rules = {}
    for line in text.strip().splitlines():
        left, arrow, right = line.partition("->")
        sides = tuple(tuple(_symbol(word) for word in side.split()) for side in right.split("|"))
        if not arrow or not all(1 <= len(side) <= _MOST_CHILDREN for side in sides):
            raise ValueError(f"rules: expected `22 -> 21 20 | 20 19`, one to three symbols each, got {line.strip()!r}")
        rules[int(left)] = sides
    return rules


def _symbol(word: str) -> int:
    return TERMINALS.index(word) if word in tuple(TERMINALS) else int(word)
