"""Triage: what the classifiers said of instances becomes findings and a priority of the study.

The rule, instance → series → study: of each label that is a finding, a series has the highest probability among its
instances and the study the highest among its series (roll-up `max`); it is flagged at or above the threshold of the
model's card; the priority of the study is the highest priority of its flagged findings by the card's triage steps.
`normal` and `non-covid` are probabilities, never findings. Nothing that the AI could not read looks negative: a study
with anything pending is pending, else with anything failed is failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.card import Card, Label
from worker.database import InstanceStatus

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


def roll_up(readings: Sequence[Reading]) -> tuple[list[dict[str, Any]], str]:
    """Return the findings of a study, in the form of the JSON interface, and its priority.

    Parameters
    ----------
    readings
        One a model and instance; of a model that ran in several versions, only those that are to count.

    Returns
    -------
    list of dict
        One a model and finding label, flagged or not, most probable flagged first.
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
            source = _highest(of_model, label)
            probability = float(source.probabilities[label.name])
            findings.append(_finding(card, label, probability, source.sop_instance_uid))
            priority = min(priority, label.priority(probability) or "none", key=PRIORITIES.index)
    findings.sort(key=lambda finding: (not finding["flagged"], -finding["probability"]))
    return findings, priority


def _highest(readings: Sequence[Reading], label: Label) -> Reading:
    """Return the reading of the study: the highest of the highest of each series."""

    def probability(reading: Reading) -> float:
        return float(reading.probabilities[label.name])

    series = {reading.series_instance_uid for reading in readings}
    of_series = (max((r for r in readings if r.series_instance_uid == uid), key=probability) for uid in sorted(series))
    return max(of_series, key=probability)


def _finding(card: Card, label: Label, probability: float, sop_instance_uid: str) -> dict[str, Any]:
    return {
        "label": label.name,
        "code": label.code.model_dump() if label.code else None,
        "probability": round(probability, 6),
        "threshold": label.threshold,
        "flagged": label.flagged(probability),
        "model": card.name,
        "model_version": card.version,
        "sop_instance_uid": sop_instance_uid,
    }


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
