"""Every module of the package has its test file, in the place where one looks for it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hf_distill"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Pure wiring; what it wires is tested where it is defined.
WITHOUT_TESTS = {"__init__.py", "__main__.py"}


def modules_with_code() -> list[Path]:
    """The package's modules, relative to it, that define a function or a class."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        if module.name in WITHOUT_TESTS or module.parts[0] == "_data":
            continue
        if any(isinstance(node, DEFINITIONS) for node in ast.parse(path.read_text(encoding="utf-8")).body):
            found.append(module)
    return found


def place_of_tests(module: Path) -> Path | None:
    """Where a module's tests lie; a metric's folder `x/x.py` has them in `test_x.py` beside the folder's name."""
    folders = [module.parent, module.parent.parent] if module.stem == module.parent.name else [module.parent]
    places = [ROOT / "tests" / folder / f"test_{module.name}" for folder in folders]
    return next((place for place in places if place.is_file()), None)


def holds_a_test(path: Path) -> bool:
    """Whether a file defines a test function."""
    functions = (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, DEFINITIONS)
    )
    return any(node.name.startswith("test_") for node in functions)


def test_a_module_without_its_test_file_is_noticed() -> None:
    modules = modules_with_code()
    assert len(modules) >= 5, "the package was not found, so nothing was checked"
    missing = [str(module) for module in modules if place_of_tests(module) is None]
    assert not missing, f"modules of hf_distill without tests/<package>/test_<module>.py: {missing}"


@pytest.mark.slow
def test_a_test_file_that_holds_no_test_is_noticed() -> None:
    files = [path for module in modules_with_code() if (path := place_of_tests(module)) is not None]
    empty = [str(path.relative_to(ROOT)) for path in files if not holds_a_test(path)]
    assert not empty, f"files without a test: {empty}"
