"""Documents that are read one by one."""

from __future__ import annotations

import pytest

from hf_distill.tasks.lazy_texts import JoinedTexts, SelectedTexts

TEXTS = ["a", "b", "c", "d"]


def test_selected_documents_come_in_the_order_asked_for():
    chosen = SelectedTexts(TEXTS, [3, 1])
    assert list(chosen) == ["d", "b"]
    assert (len(chosen), chosen[-1], chosen[:1]) == (2, "b", ["d"])


def test_joined_documents_are_one_collection():
    joined = JoinedTexts([TEXTS[:1], [], TEXTS[1:3], TEXTS[3:]])
    assert list(joined) == TEXTS
    assert (len(joined), joined[2], joined[1:3], joined[-1]) == (4, "c", ["b", "c"], "d")
    assert list(JoinedTexts([])) == []


@pytest.mark.parametrize("texts", [SelectedTexts(TEXTS, [0]), JoinedTexts([TEXTS[:1]])])
@pytest.mark.parametrize("index", [1, -2])
def test_a_document_beyond_the_last_is_refused(texts, index):
    with pytest.raises(IndexError, match="asked of 1"):
        texts[index]


def test_nothing_is_read_before_it_is_asked_for():
    class Counting(list):
        reads = 0

        def __getitem__(self, index):
            Counting.reads += 1
            return super().__getitem__(index)

    joined = JoinedTexts([SelectedTexts(Counting(TEXTS), [0, 2]), TEXTS])
    assert Counting.reads == 0
    assert joined[1] == "c"
    assert Counting.reads == 1
