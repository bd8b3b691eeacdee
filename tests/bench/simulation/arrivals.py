"""What modalities send: how many studies at which hour, films and stacks of slices, at random or evenly."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.bench.simulation.site import Study

HOUR = 3600.0


@dataclass(frozen=True)
class Mix:
    """A modality park, per modality on average.

    Attributes
    ----------
    ct_share
        Share of the modalities that are CT scanners; the others make films.
    films_a_day, cts_a_day
        Chest studies that one modality makes in a day.
    film_instances
        Weights of 1, 2, 3 … instances in a study of films.
    slices
        Fewest and most slices of a CT study; all numbers between are as likely.
    """

    ct_share: float
    films_a_day: float
    cts_a_day: float
    film_instances: Sequence[float]
    slices: tuple[int, int]

    @property
    def film_objects(self) -> float:
        """Mean number of instances of a study of films."""
        weights = self.film_instances
        return sum(number * weight for number, weight in enumerate(weights, 1)) / sum(weights)

    @property
    def ct_objects(self) -> float:
        """Mean number of slices of a CT study."""
        return sum(self.slices) / 2

    @property
    def studies_a_day(self) -> float:
        """Of one modality."""
        return (1 - self.ct_share) * self.films_a_day + self.ct_share * self.cts_a_day

    @property
    def ct_studies_share(self) -> float:
        """Share of the studies that are CT studies."""
        return self.ct_share * self.cts_a_day / self.studies_a_day

    @property
    def objects_a_study(self) -> float:
        """Mean number of instances of a study, whichever kind."""
        return (1 - self.ct_studies_share) * self.film_objects + self.ct_studies_share * self.ct_objects

    def study(self, number: int, at: float, chance: random.Random) -> Study:
        """Draw a study."""
        if chance.random() < self.ct_studies_share:
            return Study(number, "ct", chance.randint(*self.slices), at)
        (objects,) = chance.choices(range(1, len(self.film_instances) + 1), self.film_instances)
        return Study(number, "cr", objects, at)


def mix_of(document: dict[str, Any]) -> Mix:
    """Return the mix as the assumptions have it."""
    fewest, most = document["slices"]
    return Mix(
        document["ct_share"], document["films_a_day"], document["cts_a_day"], document["film_instances"],
        (fewest, most),
    )  # fmt: skip


def by_the_clock(
    mix: Mix, modalities: float, shares: Sequence[float], begin: float, end: float, chance: random.Random
) -> Iterator[Study]:
    """Yield studies between two moments of a day, at random with the rate of the hour (thinned Poisson process).

    Parameters
    ----------
    shares
        Of a day's studies, by hour; their sum is 1.
    begin, end
        Hours of the day. The first study's time is counted from `begin`, in seconds.
    """
    a_day = mix.studies_a_day * modalities
    peak = max(shares) * a_day / HOUR
    at, numbers = begin * HOUR, count(1)
    while True:
        at += chance.expovariate(peak)
        if at >= end * HOUR:
            return
        if chance.random() * max(shares) < shares[int(at / HOUR) % 24]:
            yield mix.study(next(numbers), at - begin * HOUR, chance)


def evenly(mix: Mix, objects_a_second: float, seconds: float, chance: random.Random) -> Iterator[Study]:
    """Yield studies at a steady rate of instances, in the mix: to see what a site carries, not how it copes with luck.

    The kinds come in even turns, each CT study of the mean number of slices.
    """
    a_study = mix.objects_a_study
    every, owed_ct, at = a_study / objects_a_second, 0.0, 0.0
    for number in count(1):
        owed_ct += mix.ct_studies_share
        if owed_ct >= 1:
            owed_ct -= 1
            study = Study(number, "ct", round(mix.ct_objects), at)
        else:
            (objects,) = chance.choices(range(1, len(mix.film_instances) + 1), mix.film_instances)
            study = Study(number, "cr", objects, at)
        if at >= seconds:
            return
        yield study
        at += every
