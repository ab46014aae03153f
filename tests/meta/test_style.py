"""The rules of the code that a linter does not know: sizes, documentation, annotations, what a test must hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 60  # the docstring does not count
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".cfg", ".ini", ".html", ".j2"}
# Put together from parts, so that this file does not name them itself.
REGISTRY_HOSTS = [
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("deb", "debian", "org"))
]
MACHINE_PATHS = re.compile(r"(?<![\w./$}-])/(?:" + "|".join(("work", "root")) + r")/")
ASSERTIONS = re.compile(r"^assert_|^(?:raises|warns|fail)$")


@lru_cache
def tracked_files() -> tuple[Path, ...]:
    """The project's files: those git knows or would add; without git, those of the source folders."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode == 0 and listing.stdout:
        paths = [ROOT / line for line in listing.stdout.splitlines()]
    else:
        folders = ("hf_distill", "tests", "recipes", "scripts", "model_cards")
        paths = [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return tuple(sorted(path for path in set(paths) if path.is_file() and "__pycache__" not in path.parts))


def python_files(folder: str) -> list[Path]:
    """The Python files below one of the project's folders."""
    return [path for path in tracked_files() if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]


def tree_of(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.fixture(scope="module")
def package() -> dict[Path, ast.Module]:
    """The trees of the package's files; kept for longer, garbage collection would walk them in every later test."""
    return {path: tree_of(path) for path in python_files("hf_distill")}


def place(path: Path, node: ast.AST | None = None) -> str:
    """`file` or `file:line`, as an editor opens it."""
    return f"{path.relative_to(ROOT)}{f':{node.lineno}' if node is not None else ''}"  # type: ignore[attr-defined]


def called_name(node: ast.Call) -> str:
    """The last part of what is called: `raises` of `pytest.raises(...)`."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The function's length in lines, its docstring left out."""
    docstring = ast.get_docstring(function, clean=False)
    documented = docstring.count("\n") + 1 if docstring else 0
    return function.end_lineno - function.lineno + 1 - documented  # type: ignore[operator]


def is_public(name: str) -> bool:
    """Whether a name is for users: no leading underscore."""
    return not name.startswith("_")


def test_long_files_are_split() -> None:
    sizes = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files("hf_distill")}
    long = {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FILE}
    assert not long, f"more than {MOST_LINES_OF_A_FILE} lines: {long}"


def test_long_functions_are_split(package: dict[Path, ast.Module]) -> None:
    long = [
        f"{place(path, node)} {node.name}: {code_lines(node)}"
        for path, tree in package.items()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS) and code_lines(node) > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long, f"more than {MOST_LINES_OF_A_FUNCTION} lines: {long}"


def test_no_module_keeps_state_in_globals(package: dict[Path, ast.Module]) -> None:
    found = [
        place(path, node) for path, tree in package.items() for node in ast.walk(tree) if isinstance(node, ast.Global)
    ]
    assert not found, f"`global` at {found}"


def test_attributes_are_not_probed_for(package: dict[Path, ast.Module]) -> None:
    probes, lines = [], 0
    for path, tree in package.items():
        lines += len(path.read_text(encoding="utf-8").splitlines())
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        probes += [place(path, call) for call in calls if called_name(call) in ("hasattr", "getattr")]
    assert len(probes) <= lines // 1000 + 1, f"more than one hasattr or getattr in 1,000 lines ({lines}): {probes}"


def test_every_module_says_what_it_is(package: dict[Path, ast.Module]) -> None:
    missing = [place(path) for path, tree in package.items() if tree.body and not ast.get_docstring(tree)]
    assert not missing, f"no module docstring: {missing}"


class Documented:
    """Which public names of the package lack a docstring; an override is documented where its base is."""

    def __init__(self, package: dict[Path, ast.Module]) -> None:
        nodes = [(path, node) for path, tree in package.items() for node in tree.body]
        self.functions = [(path, node) for path, node in nodes if isinstance(node, FUNCTIONS) and is_public(node.name)]
        self.classes = [(path, node) for path, node in nodes if isinstance(node, ast.ClassDef)]
        self.by_name = {node.name: node for _, node in self.classes}

    def missing(self) -> Iterator[str]:
        """Each public function, class or method without a docstring, with its place."""
        for path, node in [*self.functions, *((p, c) for p, c in self.classes if is_public(c.name))]:
            if not ast.get_docstring(node):
                yield f"{place(path, node)} {node.name}"
        for path, owner in self.classes:
            for method in owner.body:
                named = isinstance(method, FUNCTIONS) and is_public(method.name) and is_public(owner.name)
                if named and not ast.get_docstring(method) and not self._documented_in_a_base(owner, method.name):
                    yield f"{place(path, method)} {owner.name}.{method.name}"

    def _documented_in_a_base(self, owner: ast.ClassDef, method: str) -> bool:
        for base in owner.bases:
            name = _class_name(base)
            if name in ("ABC", "Protocol", "Generic", "NamedTuple", "TypedDict", "Enum", "object"):
                continue
            if name not in self.by_name:
                return True  # a library's class, which documents its own methods
            known = self.by_name[name]
            if any(isinstance(n, FUNCTIONS) and n.name == method and ast.get_docstring(n) for n in known.body):
                return True
            if self._documented_in_a_base(known, method):
                return True
        return False


def _class_name(base: ast.expr) -> str:
    match base:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=inner):
            return _class_name(inner)
    return ""


def test_public_names_are_documented(package: dict[Path, ast.Module]) -> None:
    missing = list(Documented(package).missing())
    assert not missing, f"no docstring: {missing}"


def unannotated(function: ast.FunctionDef | ast.AsyncFunctionDef, *, method: bool) -> list[str]:
    """The parameters, and `return`, that carry no annotation."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    named = positional[1:] if method and not static else positional
    rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    missing = [argument.arg for argument in [*named, *arguments.kwonlyargs, *rest] if argument.annotation is None]
    return missing + (["return"] if function.returns is None and function.name != "__init__" else [])


def test_functions_are_annotated(package: dict[Path, ast.Module]) -> None:
    missing = []
    for path, tree in package.items():
        owned = [(node, True) for owner in tree.body if isinstance(owner, ast.ClassDef) for node in owner.body]
        for node, method in [*((node, False) for node in tree.body), *owned]:
            if isinstance(node, FUNCTIONS) and (names := unannotated(node, method=method)):
                missing.append(f"{place(path, node)} {node.name}: {', '.join(names)}")
    assert not missing, f"not annotated: {missing}"


@pytest.mark.parametrize("forbidden", REGISTRY_HOSTS)
def test_no_file_names_a_package_registry(forbidden: str) -> None:
    pattern = re.compile(rf"(?<!\w){re.escape(forbidden)}\b")
    found = [place(path) for path in tracked_files() if pattern.search(_text(path))]
    assert not found, f"{forbidden} in {found}: an index belongs to the user's pip settings"


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [place(path) for path in tracked_files() if MACHINE_PATHS.search(_text(path))]
    assert not found, f"an absolute path of somebody's machine in {found}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.suffix in TEXT_SUFFIXES else ""


@pytest.mark.slow
def test_every_test_can_fail() -> None:
    """A test asserts, or calls a helper whose name says that it does; and such a helper keeps its word."""
    empty = [
        f"{place(path, node)} {node.name}"
        for path in python_files("tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, FUNCTIONS)
        and (node.name.startswith("assert_") or (node.name.startswith("test_") and path.name.startswith("test_")))
        and not _asserts(node)
    ]
    assert not empty, f"no assertion: {empty}"


def _asserts(function: ast.AST) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and ASSERTIONS.match(called_name(node))):
            return True
    return False
