from __future__ import annotations

from itertools import pairwise

import pytest
from builders import NamedRevision, revisions_at
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.teachers.selection import Selection, near_transition, read_selection

STEPS = revisions_at(100, 200, 300, 400, 500, 600, 700, 800)


def names(revisions: list[NamedRevision]) -> list[str]:
    return [revision.name for revision in revisions]


def select(revisions: list[NamedRevision] = STEPS, **options: object) -> list[NamedRevision]:
    return Selection(revisions="org/model@step*", **options).of(revisions)  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None)
@given(count=st.integers(1, 30), every=st.integers(1, 40), data=st.data())
def test_first_and_last_always_stay_in_order(count: int, every: int, data: st.DataObject) -> None:
    revisions = revisions_at(*range(10, 10 * count + 10, 10))
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(start, count - 1))
    found = select(revisions, every=every, first=revisions[start].name, last=revisions[end].step)
    assert (found[0], found[-1]) == (revisions[start], revisions[end])
    places = [revisions.index(one) for one in found]
    assert all(after - before == every for before, after in pairwise(places[:-1]))


def test_final_teacher_is_not_lost_by_every() -> None:
    assert names(select(every=3)) == ["step100", "step400", "step700", "step800"]
    assert names(select(every=2, first="step200", last=600)) == ["step200", "step400", "step600"]
    assert select() == STEPS


def test_revision_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"first: the teacher has no revision 'step250'\. .*: step200, step300"):
        select(first="step250")
    with pytest.raises(ValueError, match=r"first: 500 comes after last: step200.*exchange"):
        select(first=500, last="step200")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"revisions": "org/m@*", "evry": 2}, r"teacher\.source\.evry.*every"),
        ({"every": 2}, r"teacher\.source\.revisions"),
        ({"revisions": ""}, "expected a repository or folder"),
        ({"revisions": []}, "expected a repository or folder"),
        ({"revisions": "org/m", "every": 0}, "every: expected a whole number from 1 on, got 0"),
        ({"revisions": "org/m", "near_transition": 0}, "near_transition: expected a whole number from 1 on"),
        ({"revisions": "org/m", "every": True}, r"teacher\.source\.every"),
    ],
)
def test_mistakes_are_named_with_their_key(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_selection(mapping, path="teacher.source")


def test_list_of_entries_is_kept_in_order() -> None:
    assert read_selection({"revisions": ["a", "org/b@main"]}).entries == ["a", "org/b@main"]


@settings(derandomize=True, deadline=None)
@given(count=st.integers(1, 20), wanted=st.integers(1, 25), data=st.data())
def test_revisions_near_the_transition_hold_it_and_the_final_one(count: int, wanted: int, data: st.DataObject) -> None:
    revisions = revisions_at(*range(1, count + 1))
    chosen = data.draw(st.integers(0, count - 1))
    found = near_transition(revisions, chosen, count=wanted)
    assert revisions[chosen] in found
    assert found[-1] == revisions[-1]
    assert found == [revision for revision in revisions if revision in found]
    assert min(wanted, count) <= len(found) <= min(wanted + 1, count)


def test_the_middle_of_the_transition_is_in_the_middle() -> None:
    assert names(near_transition(STEPS, 3, count=3)) == ["step300", "step400", "step500", "step800"]
    assert names(near_transition(STEPS, 0, count=3)) == ["step100", "step200", "step300", "step800"]
    assert names(near_transition(STEPS, 7, count=2)) == ["step700", "step800"]
