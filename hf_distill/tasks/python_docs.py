"""python-docs: the standard library's docstrings and help topics, a text that lies on every machine with Python."""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

# Packages of others, tests (their sources hold deliberate syntax errors) and compiled files.
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib-dynload", "__pycache__"}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def python_docs(folder: Path | None = None) -> list[str]:
    """Return the documents, each once, in an order that depends on the Python version only.

    Sources are parsed, never imported: importing some modules of the library opens windows or browsers.

    Args:
        folder: Root of a standard library; by default that of the running Python.

    Raises:
        ValueError: The folder holds no documented source (a Python that ships compiled files only).
    """
    root = folder or Path(sysconfig.get_paths()["stdlib"])
    documents: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        for path in _source_files(root):
            documents.update(dict.fromkeys(_documents_of(path)))
    if not documents:
        raise ValueError(
            f"data: python-docs found no documented source in {root}: this Python ships without its library's "
            "sources. Use another Python, or text of your own: {path: FOLDER}."
        )
    return list(documents)


def _source_files(root: Path) -> list[Path]:
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _documents_of(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # templates and files for other interpreters
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and (text := (ast.get_docstring(node) or "").strip()):
            yield text
    if path.parent.name == "pydoc_data" and path.name == "topics.py":
        yield from _topics_of(tree)


def _topics_of(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from (text.strip() for text in ast.literal_eval(node.value).values())
