"""Downstream tasks are on the page with their own tables and curves, and nothing is there without them."""

from __future__ import annotations

import pytest
from evaluated import downstream_block
from sample_records import sample_record

from hf_distill.report.downstream import (
    downstream_csv,
    downstream_markdown,
    downstream_note,
    downstream_sections,
    draw_downstream,
)
from hf_distill.report.page import write_report


def test_a_table_says_where_each_fine_tuning_began(tmp_path):
    record = sample_record(downstream=[downstream_block()])
    pictures = draw_downstream(record, tmp_path)
    assert pictures == {"cola": tmp_path / "finetuned_cola.png"}
    (section,) = downstream_sections(record, pictures)
    assert section.section.heads[0] == "fine-tuned from"
    assert [row[0] for _, row in section.section.rows] == ["teacher", "two_shot", "from_scratch"]
    assert section.section.rows[1][1][2] == "0.3100 [0.3000 – 0.3200]"
    assert section.section.rows[1][1][-1] == "0.7750", "the share of the fine-tuned teacher's"
    assert "matthews correlation" in section.headline
    assert section.picture is not None


def test_the_note_says_what_was_carried_over():
    note = downstream_note(downstream_block())
    assert note.startswith("Fine-tuned with labels on CoLA.")
    assert "98 % (two_shot)" in note
    assert "from_scratch: the student's architecture, from new weights." in note
    assert "from_scratch" not in downstream_note(downstream_block(labels=("two_shot",)))


@pytest.mark.slow
def test_files_hold_the_same_numbers(tmp_path):
    record = sample_record(downstream=[downstream_block(), downstream_block(name="mrpc")])
    markdown = downstream_markdown(record)
    assert markdown.count("## Fine-tuned: ") == 2
    assert list(downstream_csv(record)) == ["finetuned_cola.csv", "finetuned_mrpc.csv"]
    page = write_report(record, tmp_path)
    html = page.read_text(encoding="utf-8")
    assert "Fine-tuned: cola" in html
    assert "Fine-tuned: mrpc" in html
    assert (tmp_path / "finetuned_mrpc.csv").is_file()
    assert "## Fine-tuned: mrpc" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_a_record_without_them_or_with_none_finished_has_no_section(tmp_path):
    empty = downstream_block()
    empty.runs = []
    for record in (sample_record(), sample_record(downstream=[empty])):
        assert downstream_sections(record, draw_downstream(record, tmp_path)) == []
        assert downstream_markdown(record) == ""
        assert downstream_csv(record) == {}


@pytest.mark.slow
def test_names_cannot_inject_html(tmp_path):
    block = downstream_block()
    block.runs[0].curriculum = "<script>alert(1)</script>"
    html = write_report(sample_record(downstream=[block]), tmp_path).read_text(encoding="utf-8")
    assert "<script" not in html
