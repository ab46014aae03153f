"""One page for several runs: complete, escaped, without tokens, its pictures and tables beside it."""

from __future__ import annotations

import pytest
from evaluated import sample_evaluation
from sample_records import sample_record

from hf_distill.report.comparison import blocks_of, read_runs
from hf_distill.report.comparison_page import best_of, heading, write_comparison


@pytest.fixture
def folders(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        sample_record(name=name).save(tmp_path / name)
        sample_evaluation().save(tmp_path / name)
    task = {**sample_record().task, "metric": "loss", "greater_is_better": False}
    (tmp_path / "third").mkdir()
    sample_record(name="third", task=task).save(tmp_path / "third")
    return [tmp_path / name for name in ("first", "second", "third")]


@pytest.mark.slow
def test_the_page_has_a_table_and_a_picture_a_block_and_the_reason(folders, tmp_path):
    page = write_comparison(folders, tmp_path / "out", title="Mine")
    html = page.read_text(encoding="utf-8")
    assert page.name == "comparison.html"
    assert "<h1>Mine</h1>" in html
    assert html.count("<table ") == 2
    assert html.count("data:image/png;base64,") == 2
    assert "third stands apart from first, second" in html
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "comparison.csv", "comparison.html", "comparison.md", "pareto_1.png", "pareto_2.png",
    ]  # fmt: skip
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert text.startswith("## Held-out accuracy: first, second\n")
    assert "third stands apart" in text


@pytest.mark.slow
def test_runs_are_left_as_they_were(folders, tmp_path):
    before = {file: file.read_bytes() for folder in folders for file in folder.iterdir()}
    write_comparison(folders, tmp_path / "out")
    assert {file: file.read_bytes() for folder in folders for file in folder.iterdir()} == before


def test_names_cannot_inject_html_and_tokens_are_on_no_page(tmp_path):
    token = "hf_" + "Zz" * 17
    for place, name in (("a", "<script>alert(1)</script>"), ("b", "fine")):
        record = sample_record(name=name, command=["hf-distill", "run", "r.yaml", "--hub-token", token])
        (tmp_path / place).mkdir()
        record.save(tmp_path / place)
    html = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "out").read_text(encoding="utf-8")
    assert "<script" not in html
    for file in (tmp_path / "out").iterdir():
        assert token.encode() not in file.read_bytes()


def test_one_run_is_no_comparison(folders, tmp_path):
    with pytest.raises(ValueError, match="two runs or more, got 1"):
        write_comparison(folders[:1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_lead_names_the_best_of_each_block_and_the_next_run(folders):
    blocks = blocks_of(read_runs(folders))
    assert best_of(blocks[0]) == (
        "Best accuracy: two_shot of first, 0.9970; best of the others: two_shot of second, 0.9970."
    )
    assert best_of(blocks[1]._replace(rows=())) == "No student was trained."
    assert heading(blocks[1]) == "Held-out loss: third"
