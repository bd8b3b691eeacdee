"""Rounds: every contender once in each, in an order that turns, after one round that warms up and is not counted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.bench.summary import Seen
from worker.errors import SettingsError

Contender = TypeVar("Contender")
QUICK_ROUNDS = 2


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes
    ----------
    only
        Words; cases and contenders with one of them in their name take part.
    quick
        Fewer and smaller objects, two rounds: whether it works, not how fast it is.
    """

    rounds: int = 5
    only: tuple[str, ...] = ()
    quick: bool = False

    @property
    def counted(self) -> int:
        """How many rounds count."""
        return min(self.rounds, QUICK_ROUNDS) if self.quick else self.rounds


def chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """Return the names that have one of the words in them; words that are in none of these names say nothing of them.

    So a word may be of a case or of a contender, and each is asked for its own.
    """
    words = [word.lower() for word in only if any(word.lower() in name.lower() for name in names)]
    return [name for name in names if not words or any(word in name.lower() for word in words)]


def check_words(only: Sequence[str], *groups: Iterable[str]) -> None:
    """Refuse words that are in no name at all.

    Raises
    ------
    SettingsError
        Naming the word, and what there is.
    """
    names = [name for group in groups for name in group]
    for word in only:
        if not any(word.lower() in name.lower() for name in names):
            raise SettingsError(f"--only {word}: nothing is called so; there are: {'; '.join(names)}")


def turned(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return the contenders in the order of round `number`: each begins once, and follows another each time."""
    if not contenders:
        return []
    first = number % len(contenders)
    return [*contenders[first:], *contenders[:first]]


def interleaved(
    contenders: Sequence[Contender],
    rounds: int,
    measure: Callable[[Contender], dict[str, float]],
    keep: Callable[[Contender, dict[str, float]], None],
    *,
    after_round: Callable[[], None] = lambda: None,
) -> None:
    """Measure every contender once a round.

    Parameters
    ----------
    rounds
        How many are counted; one before them is not.
    measure
        Runs a contender and returns its figures.
    keep
        Takes the figures of the rounds that count.
    after_round
        Clears up, before the next round.
    """
    for number in range(rounds + 1):
        for contender in turned(contenders, number):
            figures = measure(contender)
            if number > 0:
                keep(contender, figures)
        after_round()


def measure_cases(
    cases: Mapping[str, Sequence[Contender]],
    rounds: int,
    measured: Callable[[str, Contender], dict[str, float]],
    name_of: Callable[[Contender], str],
    seen: Seen,
    tell: Callable[[str, int, int], None],
    *,
    after_round: Callable[[], None] = lambda: None,
) -> None:
    """Measure case after case, the contenders of each in rounds.

    Parameters
    ----------
    cases
        Who takes part in which.
    measured
        Runs a contender in a case and returns its figures.
    seen
        Takes the figures of the rounds that count.
    tell
        Is told what is being done, how many runs are done, and how many there are.
    """
    total, done = (rounds + 1) * sum(map(len, cases.values())), 0
    for case, contenders in cases.items():

        def measure(contender: Contender, case: str = case) -> dict[str, float]:
            nonlocal done
            tell(f"{case}: {name_of(contender)}", done, total)
            done += 1
            return measured(case, contender)

        def keep(contender: Contender, figures: dict[str, float], case: str = case) -> None:
            seen.add(case, name_of(contender), **figures)

        interleaved(contenders, rounds, measure, keep, after_round=after_round)
