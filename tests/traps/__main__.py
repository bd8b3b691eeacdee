"""`python -m tests.traps [--only TRAP] [--json]`: every guard against every trap, tried with it and without it.

The tests of a guard are run in a copy of the source: with the guard they must pass, without it each must fail. Exit 0
when all do, 1 when one does not, 2 when the table is no longer true of the source.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.traps.kinds import Guard, Trap
from tests.traps.table import TRAPS
from tests.traps.tree import TableError, Tree, check

console = Console(stderr=True, highlight=False, markup=False)


@dataclass(frozen=True)
class Row:
    """One guard, tried both ways."""

    trap: str
    says: str
    guard: str
    tests: list[str]
    with_guard: list[str]
    without_guard: list[str]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether its tests pass with it and fail without it."""
        return set(self.with_guard) == {"passed"} and set(self.without_guard) == {"failed"}


def try_all(tree: Tree, traps: list[Trap]) -> list[Row]:
    """Run the tests of all guards with them, then those of each without it."""
    named = list(dict.fromkeys(test for trap in traps for guard in trap.guards for test in guard.tests))
    console.print(f"{len(named)} tests with every guard in its place …")
    green = tree.run(named)
    if set(green.values()) != {"passed"}:
        console.print(tree.last_words())
    return [try_without(tree, trap, guard, green) for trap in traps for guard in trap.guards]


def try_without(tree: Tree, trap: Trap, guard: Guard, green: dict[str, str]) -> Row:
    """Take one guard away and run its tests."""
    began = time.monotonic()
    with tree.without(guard.removals):
        red = tree.run(guard.tests)
    row = Row(
        trap=trap.number,
        says=trap.says,
        guard=guard.says,
        tests=list(guard.tests),
        with_guard=[green[test] for test in guard.tests],
        without_guard=[red[test] for test in guard.tests],
        seconds=round(time.monotonic() - began, 1),
    )
    console.print(f"{trap.number:>3}  {guard.says}: {'ok' if row.holds else 'NOT PROVEN'} ({row.seconds:.0f} s)")
    return row


def shown(rows: list[Row]) -> Table:
    """Return the table for people."""
    table = Table("trap", "guard", "test", "with it", "without it", title="Traps, guards, tests", show_lines=True)
    for row in rows:
        table.add_row(
            f"{row.trap} {row.says}",
            row.guard,
            "\n".join(test.partition("::")[2] for test in row.tests),
            "\n".join("green" if result == "passed" else result for result in row.with_guard),
            "\n".join("red" if result == "failed" else result for result in row.without_guard),
        )
    return table


def main() -> int:
    """Try what was asked for, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.traps", description=__doc__)
    parser.add_argument(
        "--only", action="append", metavar="TRAP", help="number of a trap (1 to 15, M1 …); may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {trap.number for trap in TRAPS}:
        console.print(f"--only {', '.join(sorted(unknown))}: there are {', '.join(trap.number for trap in TRAPS)}")
        return 2
    chosen = [trap for trap in TRAPS if not options.only or trap.number in options.only]
    try:
        for guard in (guard for trap in chosen for guard in trap.guards):
            check(guard)
    except TableError as error:
        console.print(f"the table of traps is out of date: {error}")
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fr-traps-") as directory:
        rows = try_all(Tree(Path(directory)), chosen)
    if options.json:
        sys.stdout.write(json.dumps([{**asdict(row), "holds": row.holds} for row in rows], indent=1) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(shown(rows))
        proven = sum(row.holds for row in rows)
        sys.stdout.write(f"{proven} of {len(rows)} guards proven, in {(time.monotonic() - began) / 60:.1f} minutes\n")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
