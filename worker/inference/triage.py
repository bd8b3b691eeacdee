"""Triage: what the classifiers said of instances becomes findings and a priority of the study.

The rule, instance → series → study: of each label that is a finding, a series has a probability by the roll-up of the
model's card, and the study the highest among its series; it is flagged at or above the threshold of the card; the
priority of the study is the highest priority of its flagged findings by the card's triage steps.

Roll-up `max`, for films: the highest probability among the instances. One view may show what another does not.

Roll-up `top_tenth`, for stacks of slices: the mean of the highest tenth of the probabilities, rounded up, of three at
least, or of all where there are fewer. Among hundreds of slices one is always odd (an artefact, the diaphragm, the last
one below the lungs), and the highest of all would flag nearly everybody; a mean over the stack would lose a pneumonia
in one lobe among the slices that show nothing. So a finding seen on a tenth of the slices is found in full, and one odd
slice moves the result by a third at most in a short stack, by a thirtieth in one of 300. Each series is rolled up by
itself: the same lungs reconstructed twice do not count twice, and no other series dilutes them.

What a single slice reaches is kept with its prediction and is no flag of the study.

`normal` and `non-covid` are probabilities, never findings. Nothing that the AI could not read looks negative: a study
with anything pending is pending, else with anything failed is failed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from models.card import Card, Label
from worker.database import InstanceStatus

LEAST_AVERAGED = 3
"""Of so many instances at least is the mean of a stack, where it has them."""

RANKS = {"immediate": 0, "urgent": 1, "failed": 2, "routine": 3, "pending": 4, "none": 5}
"""Place in the worklist; oldest first within each."""

PRIORITIES = ("immediate", "urgent", "routine", "none")
"""Highest first."""


@dataclass(frozen=True)
class Reading:
    """What one model said of one instance."""

    card: Card
    sop_instance_uid: str
    series_instance_uid: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class _RolledUp:
    """What a series or a study has of a label; `rollup` says in words of how many instances, where it is a mean."""

    probability: float
    sop_instance_uid: str
    rollup: str = ""


def roll_up(
    readings: Sequence[Reading], unread: Mapping[str, int] = MappingProxyType({})
) -> tuple[list[dict[str, Any]], str]:
    """Return the findings of a study, in the form of the JSON interface, and its priority.

    Parameters
    ----------
    readings
        One a model and instance; of a model that ran in several versions, only those that are to count.
    unread
        Series Instance UID → how many of its instances are still to be read. In a mean each counts as nothing found, so
        that what is shown of a study in progress can only rise: no flag is raised and taken back.

    Returns
    -------
    list of dict
        One a model and finding label, flagged or not, most probable flagged first. `sop_instance_uid` is the instance
        with the highest probability in the series that decided; `rollup` is there where the probability is a mean, and
        says of what.
    str
        `immediate`, `urgent`, `routine`, or `none` where nothing is flagged.
    """
    findings: list[dict[str, Any]] = []
    priority = "none"
    for card in {reading.card.identifier: reading.card for reading in readings}.values():
        of_model = [reading for reading in readings if reading.card.identifier == card.identifier]
        for label in card.labels:
            if not label.finding:
                continue
            found = _of_study(of_model, card, label, unread)
            findings.append(_finding(card, label, found))
            priority = min(priority, label.priority(found.probability) or "none", key=PRIORITIES.index)
    findings.sort(key=lambda finding: (not finding["flagged"], -finding["probability"]))
    return findings, priority


def _of_study(readings: Sequence[Reading], card: Card, label: Label, unread: Mapping[str, int]) -> _RolledUp:
    """Return the highest of the study's series."""
    by_series: dict[str, list[Reading]] = {}
    for reading in readings:
        by_series.setdefault(reading.series_instance_uid, []).append(reading)
    of_series = (
        _of_series(of_one, label, card.rollup, unread.get(uid, 0)) for uid, of_one in sorted(by_series.items())
    )
    return max(of_series, key=lambda found: found.probability)


def _of_series(readings: Sequence[Reading], label: Label, rollup: str, unread: int) -> _RolledUp:
    highest_first = sorted(readings, key=lambda reading: reading.probabilities[label.name], reverse=True)
    probabilities = [float(reading.probabilities[label.name]) for reading in highest_first]
    source = highest_first[0].sop_instance_uid
    if rollup == "max":
        return _RolledUp(probabilities[0], source)
    instances = len(readings) + unread
    averaged = min(instances, max(LEAST_AVERAGED, math.ceil(instances / 10)))
    return _RolledUp(math.fsum(probabilities[:averaged]) / averaged, source, _in_words(averaged, instances))


def _in_words(averaged: int, instances: int) -> str:
    if instances == 1:
        return "the only instance of the series"
    some = f"highest {averaged} of {instances}" if averaged < instances else f"{instances}"
    return f"the mean of the {some} instances of the series"


def _finding(card: Card, label: Label, found: _RolledUp) -> dict[str, Any]:
    finding = {
        "label": label.name,
        "code": label.code.model_dump() if label.code else None,
        "probability": round(found.probability, 6),
        "threshold": label.threshold,
        "flagged": label.flagged(found.probability),
        "model": card.name,
        "model_version": card.version,
        "sop_instance_uid": found.sop_instance_uid,
    }
    return finding | {"rollup": found.rollup} if found.rollup else finding


def study_status(counts: Mapping[str, int]) -> str:
    """Return the AI status of a study from the number of its instances in each state."""
    if counts.get(InstanceStatus.PENDING):
        return "pending"
    if counts.get(InstanceStatus.FAILED):
        return "failed"
    return "complete" if counts.get(InstanceStatus.CLASSIFIED) else "not_eligible"


def worklist_rank(ai_status: str, priority: str) -> int:
    """Return the place of a study in the worklist: an urgent flag comes before a failure, a failure before the rest."""
    candidates = [RANKS[priority]]
    if ai_status in {"failed", "pending"}:
        candidates.append(RANKS[ai_status])
    return min(candidates)
