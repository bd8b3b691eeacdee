"""SIGKILL: at every named point on the path, at random times of random processes, of everything at once."""

import signal
import time
from functools import partial

import psutil

from tests.faults.injected import POINTS
from tests.faults.scans import films
from tests.faults.trial import BOTH, POSTGRESQL, SQLITE, Scenario, Trial, freeze

FAMILY = "kill points"
RANDOM_KILLS = 12
ACCEPTOR_KILLS = 5


def at_a_point(service: str, point: str, trial: Trial) -> None:
    """The process that comes by ends there; a worker holds a batch of several studies then."""
    scans = films(4)

    def act() -> None:
        if service != "inference":
            trial.push(scans)
            return
        freeze("inference", trial.site)
        trial.push(scans)
        trial.wait(lambda: _registered(trial) >= len(scans), 60, "registration")
        freeze("inference", trial.site, thaw=True)

    trial.strike(point, act)


def _registered(trial: Trial) -> int:
    rows = trial.rows()
    known = {(row.sop_instance_uid, row.digest) for row in rows.instances} if rows else set()
    return len(known & trial.accepted().keys())


def again_and_again(trial: Trial) -> None:
    """The delivery worker dies three times between the PACS's yes and our commit of it."""
    trial.strike("after the PACS accepted", partial(trial.push, films(2)), times=3)


def whole_tree_at_a_point(point: str, trial: Trial) -> None:
    """A power cut at the very moment a process stands at the point."""
    site, scans = trial.site, films(4)
    site.arm(point, how="hold")
    pushing = trial.push_beside(scans, size=4)
    trial.wait(lambda: site.strikes() > 0, 120, f"a process to stand at {point!r}", fatal=True)
    site.power_cut()
    trial.struck()
    site.disarm()
    site.power_on()
    trial.fault_is_over()
    trial.wait(lambda: not pushing.is_alive(), 300, "the modality to end")


def whole_tree_at_random(trial: Trial) -> None:
    """Two power cuts while a modality sends."""
    pushing = trial.push_beside(films(16), size=2)
    for _ in range(2):
        time.sleep(trial.random.uniform(0.2, 2.5))
        trial.site.power_cut()
        trial.struck()
        trial.site.power_on()
    trial.fault_is_over()
    trial.wait(lambda: not pushing.is_alive(), 300, "the modality to end")


def one_of_two_acceptors(trial: Trial) -> None:
    """Of two processes that serve the port one dies, again and again, while a modality sends; the other goes on."""
    site, random = trial.site, trial.random
    site.stack.environment["FIRSTREAD_LISTENER_PROCESSES"] = "2"
    site.restart("listener")
    try:
        site.wait_ready()
        pushing = trial.push_beside(films(24), size=2)
        for _ in range(ACCEPTOR_KILLS):
            time.sleep(random.uniform(0.3, 1.5))
            children = psutil.Process(site.stack.processes["listener"].pid).children()
            random.choice(children).kill()
            trial.struck()
        trial.fault_is_over()
        trial.wait(lambda: not pushing.is_alive(), 300, "the modality to end")
    finally:
        site.stack.environment["FIRSTREAD_LISTENER_PROCESSES"] = "1"
        site.restart("listener")


def at_random(trial: Trial) -> None:
    """Random processes die at random times while a modality sends; each is started again at once."""
    site, random = trial.site, trial.random
    names = ["listener", "intake", "delivery", "listener", "intake", "delivery", "inference", "broker"]
    if site.postgres is not None:
        names.append("database")
    pushing = trial.push_beside(films(36), size=3)
    for _ in range(RANDOM_KILLS):
        time.sleep(random.uniform(0.1, 1.5))
        name = random.choice(names)
        if name == "broker":
            site.redis.stop(signal.SIGKILL)
            site.redis.start()
        elif name == "database" and site.postgres is not None:
            site.postgres.kill()
            site.postgres.start()
        else:
            site.stack.kill(name)
            site.stack._spawn(name)
        trial.struck()
    trial.fault_is_over()
    trial.wait(lambda: not pushing.is_alive(), 300, "the modality to end")


def scenarios() -> list[Scenario]:
    """One for each named point, the points in turn on the two databases where it makes no difference to them."""
    found = []
    for service, points in POINTS.items():
        for number, point in enumerate(point for point in points if point != "at the poison"):
            alternating = (BOTH[number % 2],) if service == "listener" else BOTH
            found.append(
                Scenario(
                    f"{service} killed {point}", FAMILY, partial(at_a_point, service, point), alternating, deadly=True
                )
            )
    found.append(
        Scenario("delivery killed three times after the PACS accepted", FAMILY, again_and_again, BOTH, deadly=True)
    )
    for databases, point in (
        (SQLITE, "after file fsync"), (POSTGRESQL, "before registration commit"),
        (SQLITE, "before result commit"), (POSTGRESQL, "after the PACS accepted"),
    ):  # fmt: skip
        found.append(
            Scenario(
                f"the whole tree killed {point}", FAMILY, partial(whole_tree_at_a_point, point), databases, deadly=True
            )
        )
    found.append(Scenario("one of two acceptors killed", "kills at random", one_of_two_acceptors, SQLITE))
    found.append(
        Scenario("the whole tree killed at random, twice", "kills at random", whole_tree_at_random, BOTH, deadly=True)
    )
    found.append(Scenario("processes killed at random", "kills at random", at_random, BOTH, deadly=True))
    return found
