from __future__ import annotations

import json.decoder
from pathlib import Path

import pytest

from hf_distill.tasks.python_docs import python_docs

FILES = {
    "b.py": '"""Module b."""\n\ndef f():\n    """Function f.\n\n    Indented.\n    """\n\nclass C:\n    "Class C."\n',
    "a.py": 'raise SystemExit("imported")\n',
    "package/inner.py": '"""Module b."""\nasync def g():\n    "Coroutine \\\\d g."\n',
    "pydoc_data/topics.py": "topics = {'if': 'The if statement.', 'for': 'The for statement.'}\n",
    "test/support.py": '"""A test."""\n',
    "site-packages/other.py": '"""Not of the library."""\n',
    "broken.py": "def (\n",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, source in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return tmp_path


def test_documents_are_complete_single_and_of_no_other_packages(library: Path) -> None:
    expected = ["Module b.", "Function f.\n\nIndented.", "Class C.", "Coroutine \\d g."]
    assert sorted(python_docs(library)) == sorted([*expected, "The if statement.", "The for statement."])


def test_the_order_does_not_depend_on_the_file_system(library: Path) -> None:
    documents = python_docs(library)
    (library / "aa.py").write_text('"""Module aa."""\n')
    assert python_docs(library) == ["Module aa.", *documents]


def test_a_python_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no documented source.*\{path: FOLDER\}"):
        python_docs(tmp_path)


@pytest.mark.slow
def test_the_running_python_has_enough_documentation() -> None:
    documents = python_docs()
    assert len(documents) == len(set(documents)) > 5000
    assert sum(len(text.encode()) for text in documents) > 1_500_000
    assert json.decoder.JSONDecodeError.__doc__.split("\n")[0] in "\n".join(documents)
    assert any("import statement" in text for text in documents), "the help topics are missing"
