"""A PACS that is down, refuses, is slow, breaks off, is out of resources, or is never quite content."""

import time
from functools import partial

from tests.faults.scans import films
from tests.faults.trial import BOTH, POSTGRESQL, SQLITE, Scenario, Trial

FAMILY = "PACS"


def down(trial: Trial) -> None:
    """Nobody listens there while results come in."""
    trial.site.pacs.stop()
    try:
        trial.push(films(3))
        trial.wait(lambda: _tried(trial) >= 2, 120, "two deliveries in vain", fatal=True)
        trial.struck(_tried(trial))
    finally:
        trial.site.pacs.start()
    trial.fault_is_over()


def _tried(trial: Trial) -> int:
    """How often a delivery of this trial was tried in vain."""
    rows = trial.rows()
    studies = {scan.study_instance_uid for scan in trial.accepted().values()}
    reports = {uid for study, _, uid in rows.reports if study in studies} if rows else set()
    return sum(attempts for uid, _, attempts in rows.deliveries if uid in reports) if rows else 0


def mannered(manner: str, trial: Trial) -> None:
    """It behaves so at least twice, then well."""
    pacs = trial.site.pacs
    before = len(pacs.met)
    pacs.manner = manner
    try:
        trial.push(films(2))
        trial.wait(lambda: len(pacs.met) >= before + 2, 120, f"the PACS to be {manner} twice", fatal=True)
        time.sleep(0.5)
    finally:
        pacs.manner = "well"
    trial.struck(len(pacs.met) - before)
    trial.fault_is_over()


def scenarios() -> list[Scenario]:
    wanted = {
        "refusing": ("PACS refuses the association", SQLITE),
        "slow": ("PACS is slow", POSTGRESQL),
        "closing": ("PACS closes in the middle of a transfer", BOTH),
        "silent": ("PACS keeps the report and breaks off without an answer", BOTH),
        "A700": ("PACS answers A700, out of resources", SQLITE),
        "B000": ("PACS answers B000, a warning", POSTGRESQL),
    }
    return [
        Scenario("PACS is down", FAMILY, down, BOTH),
        *(Scenario(name, FAMILY, partial(mannered, manner), on) for manner, (name, on) in wanted.items()),
    ]
