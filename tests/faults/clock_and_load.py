"""The clock, the load, and an input that kills whoever reads it."""

import psutil

from tests.faults.injected import POISON
from tests.faults.scans import films, scan
from tests.faults.trial import BOTH, POSTGRESQL, SQLITE, Scenario, Trial, freeze

FAMILY = "clock and load"
BURST = 500
POISON_ATTEMPTS = 3
HOUR = 3600


def clock_stepped_back(trial: Trial) -> None:
    """Every process's clock jumps back an hour: with leases held, reports waiting for quiet, deliveries put off."""
    site = trial.site
    site.pacs.stop()
    try:
        trial.push(films(2))
        trial.wait(lambda: _some_put_off(trial), 120, "deliveries that are put off", fatal=True)
        freeze("inference", site)
        trial.push(films(2))
        site.arm("after claim commit")
        freeze("inference", site, thaw=True)
        trial.wait(lambda: site.strikes() > 0, 120, "a worker to die with a lease in its hand", fatal=True)
        site.step_clock(-HOUR)
        trial.struck()
    finally:
        site.disarm()
        site.pacs.start()
    trial.fault_is_over()
    trial.push(films(2))
    trial.settle()


def _some_put_off(trial: Trial) -> bool:
    rows = trial.rows()
    return rows is not None and any(status == "pending" and attempts for _, status, attempts in rows.deliveries)


def burst(trial: Trial) -> None:
    """Five hundred studies at once over eight associations, two inference workers."""
    site = trial.site
    site.stack.start("inference-2")
    try:
        trial.modality().push_in_parallel(films(BURST), 8, 300)
        if len(trial.accepted()) != BURST:
            trial.complaints.append(f"{len(trial.accepted())} of {BURST} were accepted")
        trial.struck()
        trial.fault_is_over()
        trial.settle(600)
    finally:
        site.tend()
        site.stack.stop("inference-2")


def decoder_killed(trial: Trial) -> None:
    """The child that decodes pixels is killed three times while it waits for work; the next object finds another."""
    for _ in range(3):
        trial.push(films(1))
        trial.settle()
        worker = psutil.Process(trial.site.stack.processes["inference"].pid)
        for child in worker.children(recursive=True):
            child.kill()
            trial.struck()
    trial.fault_is_over()
    trial.push(films(2))


def poison(trial: Trial) -> None:
    """An input that kills each worker that reads it is given up after as many attempts as are set."""
    site, bad = trial.site, scan(PatientID=POISON)
    good = films(4)
    site.stack.environment["FIRSTREAD_MAX_ATTEMPTS"] = str(POISON_ATTEMPTS)
    site.restart("intake", "inference")
    try:
        site.wait_ready("inference")
        site.arm("at the poison", times=99)
        freeze("inference", site)
        trial.push([*good[:2], bad, *good[2:]])
        freeze("inference", site, thaw=True)
        trial.statuses[bad.sop_instance_uid, bad.digest] = "failed"
        trial.settle(600)
        trial.struck(site.strikes())
        if trial.times != POISON_ATTEMPTS:
            trial.complaints.append(f"it killed {trial.times} workers, not {POISON_ATTEMPTS}")
    finally:
        site.disarm()
        del site.stack.environment["FIRSTREAD_MAX_ATTEMPTS"]
        site.tend()
        site.restart("intake", "inference")
        site.wait_ready("inference")
    trial.fault_is_over()


def scenarios() -> list[Scenario]:
    return [
        Scenario("clock stepped back an hour", FAMILY, clock_stepped_back, BOTH, deadly=True),
        Scenario("500 studies in a burst, two workers", FAMILY, burst, POSTGRESQL, patience=600),
        Scenario("decoding child killed while it waits", FAMILY, decoder_killed, POSTGRESQL),
        Scenario("a poison input that kills its worker", FAMILY, poison, SQLITE, patience=600, deadly=True),
    ]
