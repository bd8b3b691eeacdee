"""Broker and database: frozen, restarted, killed, emptied, locked."""

import shutil
import signal
import sqlite3
import time
from collections.abc import Callable

import sqlalchemy as sa

from tests.faults.scans import films
from tests.faults.site import LEASE_SECONDS
from tests.faults.trial import BOTH, POSTGRESQL, SQLITE, Scenario, Trial

FAMILY = "broker and database"
AWAY_SECONDS = LEASE_SECONDS + 3.0
"""Longer than a lease."""
ANSWER_SECONDS = 20.0
"""A sender has its answers within so long, whatever stands still behind the listener (a busy machine given)."""


def _push_while_away(trial: Trial) -> None:
    """Objects are accepted while something is away, and quickly."""
    began = time.monotonic()
    trial.push(films(3))
    if time.monotonic() - began > ANSWER_SECONDS:
        trial.complaints.append(f"the sender waited {time.monotonic() - began:.0f} s")


def _during(end: Callable[[], object], begin: Callable[[], object], trial: Trial) -> None:
    """Push before, while and after a server is away; no worker has died, so none may have its work taken away."""
    before, pacs = trial.rows(), trial.site.pacs
    met = len(pacs.met)
    pacs.manner = "slow"  # so that deliveries are under way when it happens
    trial.push(films(3))
    trial.wait(lambda: len(pacs.met) > met, 120, "a delivery to be under way", fatal=True)
    end()
    pacs.manner = "well"
    try:
        trial.struck()
        _push_while_away(trial)
        time.sleep(AWAY_SECONDS)
    finally:
        begin()
    trial.fault_is_over()
    trial.push(films(1))
    trial.settle()
    after = trial.rows()
    if before and after and after.lost_leases > before.lost_leases:
        lost = after.lost_leases - before.lost_leases
        trial.complaints.append(f"{lost} leases were taken from workers that lived: each costs an attempt")


def broker_frozen(trial: Trial) -> None:
    _during(trial.site.redis.freeze, trial.site.redis.thaw, trial)


def broker_restarted(trial: Trial) -> None:
    _during(trial.site.redis.stop, trial.site.redis.start, trial)


def broker_killed(trial: Trial) -> None:
    _during(lambda: trial.site.redis.stop(signal.SIGKILL), trial.site.redis.start, trial)


def broker_loses_all(trial: Trial) -> None:
    """Killed, its files removed, started anew, while hints were in it."""
    redis = trial.site.redis

    def wipe() -> None:
        redis.stop(signal.SIGKILL)
        for path in redis.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    _during(wipe, redis.start, trial)


def database_frozen(trial: Trial) -> None:
    server = trial.site.postgres
    assert server is not None
    _during(server.freeze, server.thaw, trial)


def database_restarted(trial: Trial) -> None:
    server = trial.site.postgres
    assert server is not None
    _during(server.crash, server.start, trial)


def database_killed(trial: Trial) -> None:
    server = trial.site.postgres
    assert server is not None
    _during(server.kill, server.start, trial)


def database_locked(trial: Trial) -> None:
    """Somebody holds SQLite's write lock for longer than a lease."""
    connection = sqlite3.connect(
        str(sa.make_url(trial.site.database_url).database), isolation_level=None, timeout=30, check_same_thread=False
    )
    try:
        _during(lambda: connection.execute("BEGIN IMMEDIATE"), connection.rollback, trial)
    finally:
        connection.close()


def both_away(trial: Trial) -> None:
    """Broker and database end at once."""
    site = trial.site
    assert site.postgres is not None
    postgres = site.postgres

    def end() -> None:
        site.redis.stop(signal.SIGKILL)
        postgres.kill()

    def begin() -> None:
        postgres.start()
        site.redis.start()

    _during(end, begin, trial)


def scenarios() -> list[Scenario]:
    return [
        Scenario("Redis stands still (SIGSTOP, SIGCONT)", FAMILY, broker_frozen, BOTH),
        Scenario("Redis restarted", FAMILY, broker_restarted, SQLITE),
        Scenario("Redis killed", FAMILY, broker_killed, POSTGRESQL),
        Scenario("Redis loses all its data", FAMILY, broker_loses_all, BOTH),
        Scenario("PostgreSQL stands still (SIGSTOP, SIGCONT)", FAMILY, database_frozen, POSTGRESQL),
        Scenario("PostgreSQL restarted at once, without a checkpoint", FAMILY, database_restarted, POSTGRESQL),
        Scenario("PostgreSQL killed", FAMILY, database_killed, POSTGRESQL),
        Scenario("SQLite locked by somebody else", FAMILY, database_locked, SQLITE),
        Scenario("Redis and PostgreSQL killed together", FAMILY, both_away, POSTGRESQL),
    ]
