"""The order of terms on passes: the first one writes, the last one may write over what it reads."""

from __future__ import annotations

from hf_distill.kernels import RowTerm
from hf_distill.kernels.entries import lay_out
from hf_distill.objectives import CrossEntropy, ForwardKL, GeneralizedJSD, XDivergence


def test_memory_is_spare_only_behind_its_last_reader():
    terms = [RowTerm(objective=objective) for objective in (ForwardKL(), GeneralizedJSD(), CrossEntropy())]
    same = lay_out(terms, shared=9, own=9, passes=1)
    assert [entry.spare_student for entry in same] == [False, False, True]
    assert [entry.spare_teacher for entry in same] == [False, True, True]
    narrower = lay_out(terms, shared=7, own=9, passes=1)
    assert [entry.spare_student for entry in narrower] == [False, True, True]


def test_a_temperature_of_ones_own_is_a_distribution_of_ones_own():
    terms = [RowTerm(objective=ForwardKL(), temperature=temperature) for temperature in (1.0, 2.0)]
    assert [entry.spare_teacher for entry in lay_out(terms, shared=9, own=9, passes=1)] == [True, True]


def test_every_pass_is_begun_once_and_every_value_written_once():
    terms = [RowTerm(objective=CrossEntropy()), RowTerm(objective=XDivergence()), RowTerm(objective=ForwardKL())]
    entries = lay_out(terms, shared=9, own=9, passes=3)
    assert [entry.row for entry in entries] == [0, 0, 0, 1, 2, 2, 2]
    assert [entry.first for entry in entries] == [True, False, False, True, True, False, False]
    assert [sorted(entry.begins) for entry in entries] == [[0], [1], [2], [], [], [], []]
    assert [len(entry.students) for entry in entries] == [1, 1, 1, 3, 1, 1, 1]
    for row in range(3):
        assert abs(sum(entry.share for entry in entries if entry.row == row) - 1.0) < 1e-12


def test_a_comparison_of_passes_alone_begins_them_all():
    (entry,) = lay_out([RowTerm(objective=XDivergence())], shared=9, own=9, passes=2)
    assert entry.begins == {0, 1} and entry.first and entry.share == 1.0
