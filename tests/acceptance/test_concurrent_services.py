"""Several services of a kind at once, on PostgreSQL: they take what is owed from each other, never twice."""

import itertools
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import RedisServer
from tests.support.journeys import assert_each_once, delivered
from tests.support.objects import film, save
from tests.support.peers import Storescp
from tests.support.stack import Stack

pytestmark = pytest.mark.peer("storescu", "storescp")

STUDIES = 24
ASSOCIATIONS = 3
INFERENCE = ("inference", "inference-2")


def test_two_inference_and_two_delivery_workers(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, counting_pacs: Storescp
) -> None:
    """Each study has a film on each of three associations, each in another order: all locks are fought for."""
    pushes = films_by_association(tmp_path / "films")
    with Stack(
        tmp_path / "data",
        redis_server.url,
        pacs=counting_pacs.peer,
        database_url=postgres_url,
        study_quiet_seconds=4,  # longer than the associations are apart: one report a study
    ) as stack:
        assert stack.run("migrate").returncode == 0
        stack.start("listener", "intake", "delivery", "delivery-2")
        for worker in INFERENCE:
            stack.start_faulty(worker, "together", tmp_path / "met")
        for worker in INFERENCE:
            stack.wait(lambda name=worker: "model_ready" in stack.log(name), 90, f"{worker} to be warm")
        with ExitStack() as associations:
            started = [associations.enter_context(stack.pushing(*files)) for files in pushes]
            assert [push.wait(60) for push in started] == [0] * ASSOCIATIONS
        count = STUDIES * ASSOCIATIONS
        stack.wait(lambda: stack.settled(count), 120, "classification")
        stack.wait(lambda: delivered(stack, STUDIES), 90, "delivery")
        assert len((tmp_path / "met").read_text().split()) == 2, "both classified"
        assert stack.work("infer") == [("done", 1)] * count, "no result was dropped and made again"
        assert stack.work("report") == [("done", 1)] * STUDIES
        assert stack.work("deliver") == [("done", 1)] * STUDIES
        studies = stack.studies()
        assert [study["instances"]["received"] for study in studies] == [ASSOCIATIONS] * STUDIES
        assert [report["generation"] for study in studies for report in study["reports"]] == [1] * STUDIES
        assert_each_once(stack, counting_pacs, STUDIES)
        assert set(stack.alive().values()) == {True}
        for name in stack.processes:
            assert "eadlock" not in stack.log(name)


def films_by_association(folder: Path) -> list[list[Path]]:
    """Write the films of each association; the studies are the same, their order is not."""
    folder.mkdir()
    first = [film(PatientID=f"P{n}") for n in range(STUDIES)]
    shuffled = random.Random(7).sample(first, STUDIES)
    names = (folder / f"{n}.dcm" for n in itertools.count())
    return [
        [save(film(PatientID=ds.PatientID, StudyInstanceUID=ds.StudyInstanceUID), next(names)) for ds in order]
        for order in (first, first[::-1], shuffled)
    ]
