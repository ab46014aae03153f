"""Tables of text that lose nothing on a narrow terminal: columns shrink to their longest words, and no further."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show rows below their column heads; brackets in them are no markup.

    The first column names the row and stays in one piece. A terminal narrower than the longest words together gets
    lines longer than itself: rich would cut names off, and numbers in two.

    Args:
        columns: The heads.
        rows: A text for every column.
    """
    console = Console()
    widths = column_widths([columns, *rows], space=console.width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), width=_total(widths))
    for head, width in zip(columns, widths, strict=True):
        table.add_column(Text(head), width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table, crop=False)


def column_widths(lines: Sequence[Sequence[str]], *, space: int) -> list[int]:
    """Return the width of each column: its longest text where all fit into `space`, else the widest give way.

    Args:
        lines: The heads, then the rows.
        space: Width of the terminal, in cells.
    """
    columns = list(zip(*lines, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in columns]
    least[0] = widths[0]
    while _total(widths) > space and widths != least:
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
