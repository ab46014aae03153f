"""Tables of text that lose nothing on a narrow terminal: texts are wrapped, then the columns come in blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2
_PIECE = re.compile(r"\S+(?:(?<=\d) (?:ms|s|min|h|B|kB|MB|GB)\b[^\s\w]*| × \S+)*")
"""What is never cut in two: a word, a number with its unit, a product."""


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show rows below their column heads; brackets in them are no markup.

    The first column names the row and stays in one piece, as do words, and numbers with their units. Where all columns
    side by side would be wider than the terminal, they come in blocks below each other, each with the first column.

    Args:
        columns: The heads.
        rows: A text for every column.
    """
    console = Console()
    lines = [columns, *rows]
    for number, places in enumerate(column_blocks(lines, space=console.width)):
        if number:
            console.print()
        _show_block([[line[place] for place in places] for line in lines], console)


def _show_block(lines: Sequence[Sequence[str]], console: Console) -> None:
    widths = column_widths(lines, space=console.width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), width=_total(widths))
    for head, width in zip(lines[0], widths, strict=True):
        table.add_column(Text(folded(head, width)), width=width, no_wrap=True)
    for row in lines[1:]:
        table.add_row(*(Text(folded(cell, width)) for cell, width in zip(row, widths, strict=True)))
    console.print(table, crop=False)


def column_blocks(lines: Sequence[Sequence[str]], *, space: int) -> list[list[int]]:
    """Return the columns of each block: all of them in one where that fits, else as many as fit without wrapping.

    Args:
        lines: The heads, then the rows.
        space: Width of the terminal, in cells.
    """
    widths = column_widths(lines, space=10**6)
    if _total(column_widths(lines, space=space)) <= space:
        return [list(range(len(widths)))]
    blocks = [[0]]
    for place in range(1, len(widths)):
        together = [*blocks[-1], place]
        if len(together) > 2 and _total([widths[one] for one in together]) > space:
            blocks.append([0, place])
        else:
            blocks[-1] = together
    return blocks


def column_widths(lines: Sequence[Sequence[str]], *, space: int) -> list[int]:
    """Return the width of each column: its longest text where all fit into `space`, else the widest give way.

    Args:
        lines: The heads, then the rows.
        space: Width of the terminal, in cells.
    """
    columns = list(zip(*lines, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max((cell_len(one) for cell in column for one in _pieces(cell)), default=0) for column in columns]
    least[0] = widths[0]
    while _total(widths) > space and widths != least:
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def folded(cell: str, width: int) -> str:
    """Return a text in lines of at most `width` cells, broken between its pieces."""
    if cell_len(cell) <= width:
        return cell
    lines: list[str] = []
    for piece in _pieces(cell):
        if lines and cell_len(lines[-1]) + 1 + cell_len(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return "\n".join(lines)


def _pieces(cell: str) -> list[str]:
    return _PIECE.findall(cell)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
