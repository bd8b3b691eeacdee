"""How commands speak: results on standard output (JSON where asked), everything else on standard error."""

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A pipe has no width of its own: wide enough that nothing is folded that a script or a page would search for.
out = Console() if sys.stdout.isatty() else Console(width=220)
err = Console(stderr=True)


def say(text: str) -> None:
    """Print a line of a result as it is: nothing is folded or taken for markup."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """Print what is no result but worth knowing, as it is, on standard error."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print what went wrong, as it is, on standard error."""
    err.print(text, markup=False, soft_wrap=True, highlight=False, style="bold red")


def counted(number: int, one: str, many: str = "") -> str:
    """Write a number of things: `1 token`, `2 tokens`, `2 studies` where `many` says so."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def print_json(value: Any) -> None:
    """Print JSON and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Collection[str] = ()
) -> None:
    """Print a table; what comes from outside is not taken for markup, and nothing is cut off.

    Parameters
    ----------
    whole
        Columns that are copied or compared and so never folded either: UIDs, times. Where the terminal is too narrow
        for them, each row becomes a line.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    if not whole or _least_width(columns, cells, whole) <= out.width:
        out.print(table)
        return
    say(title)
    for row in cells:
        say(" · ".join(f"{column} {cell}" for column, cell in zip(columns, row, strict=True) if cell))


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str]) -> int:
    """Return the width below which a column that is to stay whole would be cut, or a word of another folded early."""
    widths = []
    for place, column in enumerate(columns):
        texts = [column, *(row[place] for row in rows)]
        parts = texts if column in whole else [word[:LONG_WORD] for text in texts for word in text.split()]
        widths.append(max(map(cell_len, parts), default=0))
    return sum(widths) + 3 * len(widths) + 1


LONG_WORD = 16
"""Of a longer word this much stands on one line."""
