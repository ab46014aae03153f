"""What is declared is pinned, and the pins satisfy what is declared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
PYTHONS = ("3.10", "3.11", "3.12")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared() -> list[tuple[str, str]]:
    """Every requirement of the package, its extras and its build, with each Python version that it is asked for on."""
    project, build = PYPROJECT["project"], PYPROJECT["build-system"]
    lines = [*project["dependencies"], *build["requires"]]
    lines += [line for extra in project["optional-dependencies"].values() for line in extra]
    return [(line, python) for line in lines for python in PYTHONS if holds_on(Requirement(line), python)]


def holds_on(requirement: Requirement, python: str) -> bool:
    """Whether a line with or without a marker counts on this Python version."""
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


def pins() -> list[Requirement]:
    """The lines of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("line", "python"), declared())
def test_no_declared_dependency_floats(line: str, python: str) -> None:
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    fitting = [pin for pin in pins() if canonicalize_name(pin.name) == name and holds_on(pin, python)]
    assert len(fitting) == 1, f"constraints.txt must pin {name} exactly once on Python {python}: {fitting}"
    (pinned,) = fitting[0].specifier
    assert pinned.operator == "=="
    assert requirement.specifier.contains(pinned.version, prereleases=True)


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_changelog_has_a_place_for_moved_numbers() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^### Numbers changed$", text, flags=re.MULTILINE)
