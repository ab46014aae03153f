"""Each module can be the first one that is imported: no other comes back to it before it is ready."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "hf_distill"


class Line(NamedTuple):
    """A statement that runs on import: the module it takes names of, if any, and the names that it binds."""

    source: str | None
    names: tuple[str, ...]


def modules(root: Path) -> dict[str, list[Line]]:
    """What runs when each module of the package is imported, by its dotted name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found[name] = [line for node in ast.parse(path.read_text(encoding="utf-8")).body for line in _lines(node)]
    return found


def _lines(node: ast.stmt) -> Iterator[Line]:
    match node:
        case ast.If(test=test, body=body, orelse=orelse):
            inner = orelse if "TYPE_CHECKING" in ast.unparse(test) else [*body, *orelse]
            yield from (line for one in inner for line in _lines(one))
        case ast.Try(body=body) | ast.With(body=body):
            yield from (line for one in body for line in _lines(one))
        case ast.ImportFrom(module=str(source), names=names):
            yield Line(source, tuple(alias.name for alias in names))
        case ast.Import(names=names):
            yield from (Line(alias.name, ()) for alias in names)
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield Line(None, (name,))
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield Line(None, (name,))


class Importing:
    """Imports of one interpreter, followed by reading; `problem` is the first name that is not there yet."""

    def __init__(self, known: dict[str, list[Line]]) -> None:
        self.known = known
        self.bound: dict[str, set[str]] = {}
        self.done: set[str] = set()
        self.problem: str | None = None

    def load(self, name: str) -> None:
        """Import a module, its packages before it."""
        if name in self.bound or name not in self.known:
            return
        self.load(name.rpartition(".")[0])
        if name in self.bound:
            return
        self.bound[name] = set()
        for line in self.known[name]:
            if line.source is not None:
                self._take(name, line.source, line.names)
            self.bound[name].update(line.names)
        self.done.add(name)

    def _take(self, name: str, source: str, wanted: tuple[str, ...]) -> None:
        self.load(source)
        for word in wanted:
            if f"{source}.{word}" in self.known:
                self.load(f"{source}.{word}")
            elif source in self.bound and source not in self.done and word not in self.bound[source]:
                self.problem = self.problem or f"{name} takes {word} of {source}, which is only half imported"


def circles(root: Path) -> dict[str, str]:
    """What goes wrong where a module is the first one to be imported, by its name."""
    known, found = modules(root), {}
    for name in known:
        importing = Importing(known)
        importing.load(name)
        if importing.problem is not None:
            found[name] = importing.problem
    return found


def test_each_module_can_be_imported_first() -> None:
    assert circles(ROOT) == {}


def test_a_circle_is_found(tmp_path: Path) -> None:
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "a.py").write_text("from hf_distill.b import two\none = 1\n", encoding="utf-8")
    (folder / "b.py").write_text("from hf_distill.a import one\ntwo = 2\n", encoding="utf-8")
    assert circles(tmp_path) == {
        "hf_distill.a": "hf_distill.b takes one of hf_distill.a, which is only half imported",
        "hf_distill.b": "hf_distill.a takes two of hf_distill.b, which is only half imported",
    }
