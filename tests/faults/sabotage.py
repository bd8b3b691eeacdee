"""Losses and doubles made by hand, hidden and last of all: the judge has to see them."""

from dataclasses import replace

from tests.faults.scans import films
from tests.faults.trial import BOTH, Scenario, Trial

FAMILY = "sabotage"


def sabotage_a_file(trial: Trial) -> None:
    """An accepted file is removed by hand, and the judge has to say so."""
    trial.push(films(1))
    trial.settle()
    max((trial.site.spool_dir / "stored").glob("*/*.dcm")).unlink()  # names sort by arrival
    trial.struck()


def sabotage_a_report(trial: Trial) -> None:
    """The PACS is sent a report that is nobody's, and the judge has to say so."""
    trial.push(films(1))
    trial.settle()
    arrival = trial.site.pacs.arrivals[-1]
    trial.site.pacs.arrivals.append(replace(arrival, sop_instance_uid="2.25.1"))
    trial.struck()


def scenarios() -> list[Scenario]:
    return [
        Scenario("sabotage: a report doubled", FAMILY, sabotage_a_report, BOTH, hidden=True),
        Scenario("sabotage: an accepted file removed", FAMILY, sabotage_a_file, BOTH, hidden=True),
    ]
