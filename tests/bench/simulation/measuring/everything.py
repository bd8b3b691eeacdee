"""Measure all stage times on this machine: servers started here, stopped here, and a document of what was found."""

import logging
import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from tests.bench.simulation.measuring import receiving
from tests.bench.simulation.measuring.loads import Loads
from tests.bench.simulation.measuring.pace import Pace
from tests.bench.simulation.measuring.stages import Bench, measure, threads
from tests.conftest import RedisServer
from tests.faults.postgres import PostgresServer
from tests.support.peers import Storescp
from tests.support.stack import Stack


def measure_all(rounds: int, tell: Callable[[str], object]) -> dict[str, Any]:
    """Return the stage times of this machine, as `figures/measured.json` has them."""
    threads()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    load_before = os.getloadavg()[0]
    pace = Pace()
    with pace, tempfile.TemporaryDirectory(prefix="fr-") as name, ExitStack() as servers:
        folder = Path(name)
        stack = servers.enter_context(Stack(folder / "listener"))
        stack.start("listener")
        stages = receiving.receive(stack, Loads(), rounds, tell)
        found, channels = receiving.disk(folder / "disk", rounds, tell)
        stages += found
        servers.callback((postgres := PostgresServer(folder / "pg")).stop)
        redis = RedisServer(folder)
        servers.callback(redis.stop)
        redis.start()
        pacs = servers.enter_context(Storescp(folder / "pacs"))
        bench = _bench(folder / "data", postgres, redis, pacs)
        servers.callback(bench.close)
        stages += measure(bench, rounds, tell)
    return {
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "pace_seconds": pace.seconds,
        "spool_channels": round(channels, 2),
        "stages": {stage.name: stage.as_document() for stage in sorted(stages, key=lambda stage: stage.name)},
    }


def _bench(data_dir: Path, postgres: PostgresServer, redis: RedisServer, pacs: Storescp) -> Bench:
    os.environ |= {
        "FIRSTREAD_DATA_DIR": str(data_dir),
        "FIRSTREAD_DATABASE_URL": postgres.url,
        "FIRSTREAD_BROKER_URL": redis.url,
        "FIRSTREAD_PACS": pacs.peer,
        "FIRSTREAD_STUDY_QUIET_SECONDS": "0",
    }
    from worker import schema
    from worker.celery_app import app, settings  # reads the settings as it is imported
    from worker.database import Database

    schema.migrate(Database(postgres.url))
    assert redis.process is not None
    return Bench(settings, app, postgres, redis.process.pid, pacs)


def machine() -> dict[str, Any]:
    """Return what the figures hold for."""
    from importlib.metadata import version

    about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in about if "model name" in line]
    libraries = ("pydicom", "pynetdicom", "keras", "tensorflow-cpu", "sqlalchemy", "psycopg", "simpy")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }
