"""How commands speak: results on standard output (JSON where asked), everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A pipe has no width of its own: wide enough that nothing is folded that a script or a page would search for.
out = Console() if sys.stdout.isatty() else Console(width=220)
err = Console(stderr=True)


def say(text: str) -> None:
    """Print a line of a result as it is: nothing is folded or taken for markup."""
    out.print(text, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print what went wrong, as it is, on standard error."""
    err.print(text, markup=False, soft_wrap=True, highlight=False, style="bold red")


def print_json(value: Any) -> None:
    """Print JSON and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; what comes from outside is not taken for markup."""
    table = Table(*columns, title=title, title_justify="left", header_style="bold")
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    out.print(table)
