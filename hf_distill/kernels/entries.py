"""In which order the terms of a loss are computed on each block, and what each of them may write over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hf_distill.kernels.row_terms import RowTerm, View
from hf_distill.kernels.softmaxes import StudentView


class Entry(NamedTuple):
    """A term on one pass, or on all of them where it compares them.

    Attributes:
        term: What is computed.
        row: Its place among the terms.
        students: What it reads of the student.
        teacher: What it reads of the teacher.
        share: Its part of the term: a term on each pass is their mean.
        first: Whether it is the first of its term, and writes the value instead of adding to it.
        begins: Passes whose gradient it is the first to write.
        spare_student: Whether nobody reads its student distribution afterwards.
        spare_teacher: The same for the teacher's.
    """

    term: RowTerm
    row: int
    students: tuple[StudentView, ...]
    teacher: View | None
    share: float
    first: bool
    begins: frozenset[int]
    spare_student: bool
    spare_teacher: bool


def lay_out(terms: Sequence[RowTerm], *, shared: int, own: int, passes: int) -> list[Entry]:
    """Lay out each term on each pass, and find out who is first and who is last.

    Args:
        terms: What is computed.
        shared: Ids common to student and teacher.
        own: Width of the student's logits.
        passes: Of the student.
    """
    together, one_by_one = [tuple(range(passes))], [(number,) for number in range(passes)]
    groups = [
        (row, term, group)
        for row, term in enumerate(terms)
        for group in (together if term.compares_passes else one_by_one)
    ]
    read = [
        tuple(StudentView(number, term.student_view(shared, own)) for number in group) for _, term, group in groups
    ]
    teachers = [term.teacher_view(shared) for _, term, _ in groups]
    entries, begun = [], set[int]()
    for place, (row, term, group) in enumerate(groups):
        later_students = {view for views in read[place + 1 :] for view in views}
        entries.append(
            Entry(
                term=term,
                row=row,
                students=read[place],
                teacher=teachers[place],
                share=1.0 if term.compares_passes else 1.0 / passes,
                first=group[0] == 0,
                begins=frozenset(group) - begun,
                spare_student=read[place][0] not in later_students,
                spare_teacher=teachers[place] not in teachers[place + 1 :],
            )
        )
        begun |= set(group)
    return entries
