"""A small site of stage times that are easy to reckon with."""

import pytest

from models.engines.keras import BUCKETS
from tests.bench.simulation.stage_times import Stage


def stage(name: str, fixed=None, each=None, **more) -> Stage:
    return Stage(name, "assumed", "a test", fixed or {}, each or {}, **more)


@pytest.fixture
def stages() -> dict[str, Stage]:
    """No spread; a slice costs intake 8 ms and a worker 20 ms; nothing else matters much."""
    made = [
        stage("receive.cr", {"listener": 0.004, "sender": 0.001}),
        stage("receive.ct", {"listener": 0.001, "sender": 0.001}),
        stage("spool.cr", {"wait": 0.002}),
        stage("spool.ct", {"wait": 0.001}),
        stage("headers.cr", {"intake": 0.01}),
        stage("headers.ct", {"intake": 0.003}),
        stage("register", {}, {"intake": 0.004, "database": 0.001}, chained=0.5),
        stage("file_away", {"wait": 0.0}),
        stage("log", {"wait": 0.0}),
        stage("hint", {"publisher": 0.0001, "broker": 0.0001}),
        stage("wakeup", {"wait": 0.001}),
        stage("sweep", {"intake": 0.001}),
        stage("claim", {"worker": 0.0}),
        stage("decode.cr", {"worker": 0.03}),
        stage("decode.ct", {"worker": 0.008}),
        *(stage(f"infer.{kind}.{bucket}", {"worker": 0.01 * bucket}) for kind in ("cr", "ct") for bucket in BUCKETS),
        *(stage(f"gpu.{kind}", {"wait": 0.003}) for kind in ("cr", "ct")),
        stage("commit", {}, {"worker": 0.002}, chained=0.25),
        stage("report", {"process": 0.01, "database": 0.001}, chained=0.5),
        stage("report_file", {"wait": 0.001}),
        stage("deliver", {"process": 0.01, "database": 0.001}, chained=0.5),
        stage("pacs", {"wait": 0.05}),
    ]
    return {one.name: one for one in made}
