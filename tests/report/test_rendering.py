"""Templates get everything they name, escaped, and pictures are inside of the page."""

from __future__ import annotations

import base64

import pytest
from jinja2 import UndefinedError

from hf_distill.report.rendering import embedded, render_page


def test_a_picture_is_its_own_bytes(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG...")
    picture = embedded(file, "what it shows")
    assert base64.b64decode(picture.data_url.removeprefix("data:image/png;base64,")) == b"\x89PNG..."
    assert picture.alt == "what it shows"


def test_a_variable_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="title"):
        render_page("base.html.jinja", generator="x")


def test_values_are_escaped():
    page = render_page("base.html.jinja", generator="x", title="<b>")
    assert "<title>&lt;b&gt;</title>" in page
