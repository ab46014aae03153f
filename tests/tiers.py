"""Which of many like cases the quick tests run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet


def mostly_slow(cases: Iterable[Any], *, quick: Callable[..., bool]) -> list[ParameterSet]:
    """Mark the cases of a parametrised test `slow`, but for those whose values `quick` picks.

    Args:
        cases: As `pytest.mark.parametrize` takes them; a plain tuple is several values.
        quick: Called with the values of a case.

    Raises:
        ValueError: It picks none of the cases, or all.
    """
    marked = []
    for case in cases:
        values, name, marks = (case,), None, ()
        if isinstance(case, ParameterSet):
            values, marks, name = case
        elif type(case) is tuple:
            values = case
        chosen = bool(quick(*values))
        given = marks if chosen else (*marks, pytest.mark.slow)
        marked.append((chosen, pytest.param(*values, id=name, marks=given)))
    quick_cases = sum(chosen for chosen, _ in marked)
    if not 0 < quick_cases < len(marked):
        raise ValueError(f"`quick` picks {quick_cases} of {len(marked)} cases; it must pick some, not all")
    return [case for _, case in marked]
