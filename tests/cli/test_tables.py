from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.cli.tables import column_widths, folded, show_table

COLUMNS = ["curriculum", "accuracy, median", "min – max", "steps to 0.99, median", "seconds"]
ROWS = [
    ["iterative_self_distillation", "0.9985", "0.9971 – 0.9992", "not reached", "1234"],
    ["labels", "0.5012", "0.4988 – 0.5031", "123400", "1199"],
]


def shown(columns: list[str], rows: list[list[str]], width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a table on a terminal of this width."""
    monkeypatch.setenv("COLUMNS", str(width))
    with redirect_stdout(io.StringIO()) as out:
        show_table(columns, rows)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 80, 60, 20])
def test_no_name_and_no_number_is_cut_on_a_narrow_terminal(width, monkeypatch):
    lines = shown(COLUMNS, ROWS, width, monkeypatch)
    words = " ".join(lines).split()
    blocks = words.count("curriculum")
    assert blocks == {200: 1, 80: 1, 60: 3, 20: 4}[width]
    assert all(sum(line.startswith(f"{row[0]} ") for line in lines) == blocks for row in ROWS)
    repeated = [COLUMNS[0], *(row[0] for row in ROWS)] * (blocks - 1)
    assert sorted(words) == sorted(" ".join([*COLUMNS, *(cell for row in ROWS for cell in row), *repeated]).split())


def test_what_does_not_fit_comes_below_with_the_names_of_the_rows(monkeypatch):
    heads = ["GPUs", "step", "student", "interconnect", "bound by", "memory (of 80 GB)"]
    row = ["1,024", "0.9 ms", "0.61 ms", "0", "revision download", "51 GB, too much"]
    assert len(shown(heads, [row], 80, monkeypatch)) == 2
    assert [line.rstrip() for line in shown(heads, [row], 48, monkeypatch)] == [
        "GPUs   step    student  interconnect",
        "1,024  0.9 ms  0.61 ms  0",
        "",
        "GPUs   bound by           memory (of 80 GB)",
        "1,024  revision download  51 GB, too much",
    ]


@pytest.mark.parametrize(
    ("cell", "width", "lines"),
    [
        ("0.9 ms", 4, ["0.9 ms"]),
        ("64 × 16", 3, ["64 × 16"]),
        ("1 min 32 s", 6, ["1 min", "32 s"]),
        ("51 GB, too much", 8, ["51 GB,", "too much"]),
        ("memory (of 80 GB)", 10, ["memory (of", "80 GB)"]),
        ("0.4988 – 0.5031", 9, ["0.4988 –", "0.5031"]),
        ("a layer of its call", 40, ["a layer of its call"]),
    ],
)
def test_a_number_keeps_its_unit(cell, width, lines):
    assert folded(cell, width).split("\n") == lines


def test_a_row_is_one_line_where_it_fits_and_lines_fit_where_they_can(monkeypatch):
    assert len(shown(COLUMNS, ROWS, 120, monkeypatch)) == 3
    for width in (80, 65):
        lines = shown(COLUMNS, ROWS, width, monkeypatch)
        assert max(map(len, lines)) <= width


def test_brackets_are_shown_not_read_as_markup(monkeypatch):
    lines = shown(["a [head]", "b"], [["x [bold]", "objectives=[kl]"]], 80, monkeypatch)
    assert [line.split() for line in lines] == [["a", "[head]", "b"], ["x", "[bold]", "objectives=[kl]"]]


TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs", "P"]), max_size=12)


@settings(derandomize=True, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(TEXT, min_size=n, max_size=n), min_size=1)), st.integers()
)
def test_columns_shrink_to_their_longest_words_and_only_where_they_must(lines, space):
    natural, widths = column_widths(lines, space=10**6), column_widths(lines, space=space)
    assert widths[0] == natural[0]
    assert all(width <= most for width, most in zip(widths, natural, strict=True))
    gaps = 2 * (len(widths) - 1)
    if sum(natural) + gaps <= space:
        assert widths == natural
    elif widths != column_widths(lines, space=0):
        assert sum(widths) + gaps == space
