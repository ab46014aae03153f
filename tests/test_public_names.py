"""What `from hf_distill import ...` gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hf_distill
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.making import make_student


@pytest.mark.parametrize("name", hf_distill.__all__)
def test_a_public_name_is_there(name):
    assert vars(hf_distill).get(name) is not None or hf_distill.__getattr__(name) is not None


def test_students_are_made_with_public_names():
    assert hf_distill.StudentCut is StudentCut
    assert hf_distill.make_student is make_student


def test_type_checkers_see_the_names_that_are_imported_late():
    tree = ast.parse(Path(hf_distill.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    } - {None}
    assert imported == set(hf_distill.__all__) - {"__version__"}


def test_a_misspelt_name_is_told():
    with pytest.raises(AttributeError, match=r"public names: .*make_student"):
        hf_distill.make_students  # noqa: B018
