"""What lies beside a record is on its page, with pictures, and a page without it has no empty section."""

from __future__ import annotations

import shutil

import pytest
from evaluated import result, sample_evaluation, write_sensitivity
from sample_records import sample_record

from hf_distill.report.beside import (
    beside,
    contributions_section,
    draw_beside,
    evaluation_sections,
    write_evaluation_tables,
)
from hf_distill.report.page import write_report


@pytest.fixture
def folder(tmp_path):
    return write_sensitivity(tmp_path)


def test_nothing_beside_is_nothing_shown(tmp_path):
    found = beside(tmp_path)
    assert found == (None, None)
    assert draw_beside(found, tmp_path) == {}
    assert evaluation_sections(None) == []
    assert contributions_section(None) is None


@pytest.mark.slow
def test_evaluation_and_sensitivity_are_on_the_page(folder):
    sample_evaluation().save(folder)
    html = write_report(sample_record(), folder).read_text(encoding="utf-8")
    for expected in ("Quality, fidelity and cost", "How evenly parameters contribute", "1,000,000", "0.04"):
        assert expected in html, expected
    assert (folder / "pareto.png").is_file()
    assert (folder / "contributions.png").is_file()
    bare = folder / "bare"
    html = write_report(sample_record(), bare).read_text(encoding="utf-8")
    assert "Quality, fidelity and cost" not in html
    assert "evenly" not in html


@pytest.mark.slow
def test_names_of_models_cannot_inject_html(tmp_path):
    evil = "<script>alert(1)</script>"
    sample_evaluation(models=[result("x", name=evil), result("y", curriculum=evil, seed=0)]).save(tmp_path)
    html = write_report(sample_record(), tmp_path).read_text(encoding="utf-8")
    assert "<script" not in html


def test_an_evaluation_without_any_metric_has_a_table_and_no_picture(tmp_path):
    sample_evaluation(models=[result("x", metrics={})]).save(tmp_path)
    found = beside(tmp_path)
    assert draw_beside(found, tmp_path) == {}
    quality, cost = evaluation_sections(found.evaluation)
    assert quality.rows[0][1][0] == cost.rows[0][1][0] == "x"
    assert cost.heads[1] == "parameters"


def test_tables_are_written_beside_the_run(tmp_path):
    csv_file, markdown = write_evaluation_tables(sample_evaluation(), tmp_path)
    assert csv_file.name == "evaluation.csv"
    assert len(csv_file.read_text(encoding="utf-8").splitlines()) == 1 + 11
    assert markdown.read_text(encoding="utf-8").startswith("| model | seeds | accuracy |")


def test_colours_of_the_table_are_those_of_the_run(folder):
    sample_evaluation().save(folder)
    found = beside(folder)
    colours = [colour for colour, _ in evaluation_sections(found.evaluation)[0].rows]
    assert colours[0] is None
    assert len({colour for colour in colours if colour}) == 3
    shutil.rmtree(folder / "analysis")
    assert beside(folder).contributions is None
