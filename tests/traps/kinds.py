"""What the table of traps is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Removal:
    """A guard's text in a file, and what stands there when it is taken away."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True)
class Guard:
    """One guard against a trap, and the tests that fail without it."""

    says: str
    removals: tuple[Removal, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Trap:
    """A trap; `number` is its place in the list, `M` and a number for the shorter ones."""

    number: str
    says: str
    guards: tuple[Guard, ...]


def guard(says: str, file: str, text: str, instead: str, *tests: str) -> Guard:
    """Return a guard that one removal takes away."""
    return Guard(says, (Removal(file, text, instead),), tests)
