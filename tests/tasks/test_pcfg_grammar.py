"""Sentences are those of the grammar: their lengths, their parses and their rules agree with what is derived here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chisquare
from tiers import mostly_slow

from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.pcfg_grammar import Grammar, Trees, TreeSampler, parse_rules
from hf_distill.tasks.pcfg_rules import RULES

# Mean, shortest and longest sentence as they were computed from the published rules, apart from this package.
LENGTHS = {
    "cfg3b": (294, 161, 432),
    "cfg3f": (250, 64, 729),
    "cfg3g": (252, 80, 729),
    "cfg3h": (236, 97, 459),
    "cfg3i": (308, 114, 564),
}
LETTERS = (0, 1, 2)


def trees_of(grammar: Grammar, count: int, *, seed: int = 0) -> Trees:
    return TreeSampler(grammar, CounterStream("test", seed)).sample(np.arange(count))


def moments(grammar: Grammar) -> tuple[Fraction, Fraction]:
    """Mean and variance of a sentence's length, exactly: children are independent, rules equally likely."""
    found = {letter: (Fraction(1), Fraction(0)) for letter in LETTERS}
    for symbol in sorted(grammar.rules):
        sides = [(sum(found[c][0] for c in side), sum(found[c][1] for c in side)) for side in grammar.rules[symbol]]
        mean = sum(m for m, _ in sides) / len(sides)
        found[symbol] = (mean, sum(v + (m - mean) ** 2 for m, v in sides) / len(sides))
    return found[grammar.root]


def derives(grammar: Grammar, sentence: list[int]) -> bool:
    """Whether a sentence stems from the root: all spans of each height from those of the height below."""
    spans = {(place, letter): {place + 1} for place, letter in enumerate(sentence)}
    for _ in range(grammar.height):
        starts = {start for start, _ in spans}
        above: dict[tuple[int, int], set[int]] = {}
        for symbol, sides in grammar.rules.items():
            for side in sides:
                for start in starts:
                    ends = {start}
                    for child in side:
                        ends = set().union(*(spans.get((end, child), set()) for end in ends))
                    if ends:
                        above.setdefault((start, symbol), set()).update(ends)
        spans = above
    return len(sentence) in spans.get((0, grammar.root), set())


def used_rules(grammar: Grammar, trees: Trees) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each symbol with the children that its terminals' ancestors say it has."""
    for row, length in enumerate(trees.lengths):
        for height in range(1, grammar.height + 1):
            above, below = (trees.ancestors(h)[row, :length] for h in (height, height - 1))
            ends_above, ends_below = (trees.ends(h)[row, :length] for h in (height, height - 1))
            children: list[int] = []
            for place in np.flatnonzero(ends_below):
                children.append(int(below[place]))
                if ends_above[place]:
                    yield int(above[place]), tuple(children)
                    children = []
            assert not children, "the last symbol of every height ends with the sentence"


@pytest.mark.parametrize("name", RULES)
def test_sentences_are_as_long_as_the_rules_say(name: str) -> None:
    grammar = Grammar.named(name)
    mean, variance = (float(value) for value in moments(grammar))
    lengths = trees_of(grammar, 3000).lengths
    assert abs(lengths.mean() - mean) < 4.5 * (variance / len(lengths)) ** 0.5
    assert (int(mean + 0.5), grammar.shortest, grammar.longest) == LENGTHS[name]
    assert grammar.shortest <= lengths.min() and lengths.max() <= grammar.longest
    assert lengths.var() == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize("name", mostly_slow(RULES, quick=lambda name: name == "cfg3b"))
def test_every_sentence_has_a_parse(name: str) -> None:
    grammar = Grammar.named(name)
    terminals = trees_of(grammar, 4).ancestors(0)
    for row in terminals:
        assert derives(grammar, row[row >= 0].tolist())


def test_not_every_string_would_parse() -> None:
    grammar = Grammar.named("cfg3b", root=19)
    sentence = trees_of(grammar, 1).ancestors(0)[0].tolist()
    assert derives(grammar, sentence)
    assert not derives(grammar, sentence[:-1])
    changed = [[*sentence[:20], (sentence[20] + step) % 3, *sentence[21:]] for step in (1, 2)]
    assert not any(derives(grammar, other) for other in changed)


@pytest.mark.parametrize("name", RULES)
def test_the_ancestors_of_terminals_are_a_tree_of_the_grammar(name: str) -> None:
    grammar = Grammar.named(name)
    trees = trees_of(grammar, 3)
    rules = list(used_rules(grammar, trees))
    assert all(children in grammar.rules[symbol] for symbol, children in rules)
    assert len(rules) == sum(len(trees.symbols[height]) for height in range(1, grammar.height + 1))
    assert {trees.ancestors(grammar.height)[0, 0]} == {22}


@pytest.mark.parametrize("name", mostly_slow(RULES, quick=lambda name: name == "cfg3b"))
def test_all_rules_are_equally_likely(name: str) -> None:
    grammar = Grammar.named(name)
    counts = Counter(used_rules(grammar, trees_of(grammar, 120)))
    assert len({symbol for symbol, _ in counts}) == 16
    for symbol in {symbol for symbol, _ in counts}:
        seen = [counts[symbol, side] for side in grammar.rules[symbol]]
        # 16 non-terminals of 5 grammars: one of 80 true nulls falls below 1e-5 once in a thousand seeds.
        assert len(seen) == 1 or chisquare(seen).pvalue > 1e-5, (symbol, seen)


def test_the_choices_of_a_sentence_do_not_depend_on_each_other() -> None:
    trees = trees_of(Grammar.named("cfg3b", root=10), 20_000)
    # 10 -> 7 9 8 | 9 8 7, 7 and 8 of 2 or 3 terminals: three free choices, eight equally likely combinations.
    sizes, last_first = trees.sizes[1].reshape(-1, 3), trees.symbols[1].reshape(-1, 3)[:, 0] == 9
    seven = np.where(last_first, sizes[:, 2], sizes[:, 0])
    eight = np.where(last_first, sizes[:, 1], sizes[:, 2])
    combined = np.bincount(last_first * 4 + (seven - 2) * 2 + (eight - 2), minlength=8)
    assert chisquare(combined).pvalue > 1e-4


def test_a_sentence_does_not_depend_on_those_made_with_it() -> None:
    grammar = Grammar.named("cfg3f")
    sampler = TreeSampler(grammar, CounterStream("test", 3))
    together = sampler.sample(np.array([10**12, 4, 4, 9]))
    for place, row in enumerate((10**12, 4, 4, 9)):
        alone = sampler.sample(np.array([row]))
        length = int(alone.lengths[0])
        assert together.lengths[place] == length
        for height in range(grammar.height + 1):
            np.testing.assert_array_equal(together.ancestors(height)[place, :length], alone.ancestors(height)[0])
            np.testing.assert_array_equal(together.ends(height)[place, :length], alone.ends(height)[0])
        assert (together.ancestors(2)[place, length:] == -1).all()
        assert not together.ends(0)[place, length:].any()


def test_two_seeds_and_two_sentences_are_not_the_same() -> None:
    grammar = Grammar.named("cfg3b")
    rows = [row.tobytes() for seed in (0, 1) for row in trees_of(grammar, 500, seed=seed).ancestors(0)]
    assert len(set(rows)) == 1000


@pytest.mark.parametrize("root", [10, 16, 19, 22])
def test_a_lower_root_gives_the_part_of_the_grammar_below_it(root: int) -> None:
    grammar = Grammar.named("cfg3b", root=root)
    trees = trees_of(grammar, 200)
    assert grammar.height == {10: 2, 16: 4, 19: 5, 22: 6}[root]
    for height in range(grammar.height + 1):
        assert grammar.symbols_at(height) == tuple(np.unique(trees.symbols[height]))
    assert grammar.symbols_at(grammar.height) == (root,)
    assert grammar.symbols_at(0) == LETTERS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grammar.named("cfg3c"), r"unknown 'cfg3c'.*Known: cfg3b, cfg3f"),
        (lambda: Grammar.named("cfg3b", root=3), "3 is no non-terminal of this grammar; it has 7, 8"),
        (lambda: Grammar({7: ((0, 1),), 8: ((7, 0),)}, 8), "the children of 8 must be of one height"),
        (lambda: Grammar({7: ((0, 9),)}, 7), "the children of 7 must be of one height"),
        (lambda: Grammar.named("cfg3b").symbols_at(7), r"expected 0 \(terminals\) to 6 \(the root\), got 7"),
        (lambda: parse_rules("7 -> a | "), "one to three symbols each, got '7 -> a |'"),
        (lambda: parse_rules("7 = a"), "one to three symbols each, got '7 = a'"),
        (lambda: parse_rules("7 -> a b c a"), "one to three symbols each"),
    ],
)
def test_what_is_no_grammar_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
