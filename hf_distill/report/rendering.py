"""How pages become HTML: pictures embedded, every value escaped, undefined names an error."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_distill.report import wording


class Picture(NamedTuple):
    """A picture on the page: its PNG as a data URL and what it shows, for those who do not see it."""

    data_url: str
    alt: str


class Section(NamedTuple):
    """A table of a page: column heads, rows with the colour of their mark (None: no mark), and how to read it."""

    heads: list[str]
    rows: list[tuple[str | None, list[str]]]
    note: str


def embedded(path: Path, alt: str) -> Picture:
    """Return a PNG file as a picture."""
    return Picture("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"), alt)


def render_page(template: str, **values: Any) -> str:
    """Return a template of the package as HTML.

    Args:
        template: Its file name.
        values: Its variables; `w` writes numbers for people.
    """
    environment = Environment(
        loader=PackageLoader("hf_distill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(w=wording, **values)
