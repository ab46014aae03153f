"""The page: complete, self-contained, escaped, the same numbers as the record, no token on it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
import yaml
from sample_records import COMMITS, labels_only_record, sample_record

from hf_distill.report.page import write_report

_VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects text, attributes, and tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.unbalanced, self.attributes, self.text = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = write_report(sample_record(), tmp_path_factory.mktemp("report") / "new")
    return path, path.read_text(encoding="utf-8")


def test_page_needs_nothing_outside_itself(written):
    _, html = written
    page = Page(html)
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert sources
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert not re.search(r"@import|url\(|<script|<link|https?://", html)


def test_page_embeds_the_very_pictures_that_lie_beside_it(written):
    path, html = written
    names = ["learning_curves.png", "teacher_curve.png", "loss_parts.png", "costs.png"]
    for name in names:
        assert base64.b64encode((path.parent / name).read_bytes()).decode() in html
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(
        [*names, "report.html", "results.csv", "results.md"]
    )


def test_every_tag_is_closed_and_every_picture_is_described(written):
    page = Page(written[1])
    assert page.unbalanced == []
    assert page.open == []
    assert sum(1 for tag, name, value in page.attributes if (tag, name) == ("img", "alt") and value) == 4


def test_page_shows_the_numbers_the_revisions_and_the_recipe(written):
    _, html = written
    text = " ".join(" ".join(Page(html).text).split())
    for expected in (
        "0.9970 [0.9970 – 0.9970]",
        "725",
        "3 of 3",
        "not reached",
        *COMMITS.values(),
        "2 min 05 s",
        "14.2 s",
    ):
        assert expected in text, expected
    assert "hf-distill run" in text
    recipe = re.search(r"<pre><code>(name:.*?)</code>", html, flags=re.DOTALL).group(1)
    assert yaml.safe_load(recipe.replace("&#39;", "'")) == sample_record().recipe


def test_results_beside_the_page_say_the_same(written):
    text = (written[0].parent / "results.md").read_text(encoding="utf-8")
    assert text.startswith("two_shot reaches accuracy 0.99 in 725 steps (3 of 3 seeds).")
    assert "| two_shot | 3 | 0.9970 [0.9970 – 0.9970] | 725 | 3 of 3 |" in text


def test_record_without_teacher_level_and_costs_has_a_page(tmp_path):
    html = write_report(labels_only_record(), tmp_path).read_text(encoding="utf-8")
    assert "The teacher" not in html
    assert "Costs" not in html
    assert not (tmp_path / "teacher_curve.png").exists()


def test_unfinished_record_without_runs_has_a_page(tmp_path):
    html = write_report(sample_record(runs=[], finished=None), tmp_path).read_text(encoding="utf-8")
    assert "No student was trained." in html
    assert "not finished" in html


@pytest.mark.slow
def test_values_of_the_record_cannot_inject_html(tmp_path):
    evil = "<script>alert(1)</script>"
    record = sample_record(name=evil, command=["hf-distill", evil])
    record.runs[0].curriculum = evil
    record.teacher["revisions"][0]["source"] = evil
    record.recipe["name"] = evil
    html = write_report(record, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 5


@pytest.mark.slow
def test_tokens_are_on_no_page(tmp_path):
    token = "hf_" + "Zz" * 17
    record = sample_record(command=["hf-distill", "run", "r.yaml", "--set", f"training.hub_token={token}"])
    record.recipe["training"]["hub_token"] = "plain-looking-secret"
    record.teacher["source"] = f"https://user:{token}@host/repo"
    write_report(record, tmp_path)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert token.encode() not in content
        assert b"plain-looking-secret" not in content


@pytest.mark.slow
def test_writing_the_page_does_not_change_the_record(tmp_path):
    record = sample_record()
    before = record.to_dict()
    write_report(record, tmp_path, title="Another title")
    assert record.to_dict() == before
    assert "<h1>Another title</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_numbers_that_are_not_finite_do_not_break_the_page(tmp_path):
    record = sample_record()
    record.runs[0].final_metrics["accuracy"] = float("nan")
    record.runs[0].history[3]["accuracy"] = float("inf")
    html = write_report(record, tmp_path).read_text(encoding="utf-8")
    assert "2 of 3 seeds measured" in html
    assert ">nan<" not in html
