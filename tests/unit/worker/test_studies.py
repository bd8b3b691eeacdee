"""The read model, on both databases: order, forms, search, counts, detail, silence."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.worklist_rows import EXPECTED_ORDER, PACS, fill, owe_inference, uid
from worker import schema
from worker.database import Database, Instance, Prediction, Study
from worker.errors import NotFound
from worker.studies import (
    StudyFilter,
    count_by_class,
    count_studies,
    list_studies,
    study_detail,
    study_document,
    worker_silence,
)

KEYS = {
    "study_instance_uid", "patient_id", "patient_name", "accession_number", "modality", "study_description",
    "received_at", "completed_at", "priority", "ai_status", "reason", "failure_acknowledged_at",
    "instances", "findings", "reports",
}  # fmt: skip


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    schema.migrate(database)
    yield database
    database.dispose()


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database)
    return database


def found(database: Database, search: str) -> list[str]:
    with database.read() as session:
        documents = list_studies(session, StudyFilter(search=search))
        assert count_studies(session, StudyFilter(search=search)) == len(documents)
    return [document["study_instance_uid"].rpartition(".")[2] for document in documents]


def test_most_urgent_first_then_oldest(filled: Database) -> None:
    with filled.read() as session:
        assert [d["study_instance_uid"] for d in list_studies(session, StudyFilter())] == EXPECTED_ORDER


def test_a_document_has_the_keys_and_forms_of_the_contract(filled: Database) -> None:
    with filled.read() as session:
        documents = list_studies(session, StudyFilter())
    assert all(document.keys() == KEYS for document in documents)
    urgent = next(d for d in documents if d["study_instance_uid"] == uid(5))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", urgent["received_at"])
    assert urgent["completed_at"].endswith("Z")
    assert urgent["instances"] == {"received": 1, "classified": 1, "failed": 0, "not_eligible": 0, "pending": 0}
    assert urgent["findings"][0] == {
        "label": "pneumonia", "code": {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"},
        "probability": 0.914, "threshold": 0.5, "flagged": True, "model": "chest-film", "model_version": "1.0.0",
        "sop_instance_uid": f"{uid(5)}.1.1",
    }  # fmt: skip
    assert urgent["reports"] == [
        {
            "sop_instance_uid": f"2.25.500{generation}",
            "kind": "sr",
            "generation": generation,
            "deliveries": [
                {"destination": "ARCHIVE@192.0.2.11:11112", "status": "pending", "attempts": 2,
                 "last_error": "no answer within 10 s", "committed": None},
                {"destination": PACS, "status": "delivered", "attempts": 1, "last_error": None, "committed": None},
            ],
        }
        for generation in (1, 2)
    ]  # fmt: skip
    waiting = next(d for d in documents if d["study_instance_uid"] == uid(2))
    assert (waiting["ai_status"], waiting["priority"], waiting["completed_at"]) == ("pending", "none", None)
    assert (waiting["findings"], waiting["reports"]) == ([], [])


def test_a_study_that_nobody_looked_at_yet_is_pending(database: Database) -> None:
    with database.write() as session:
        now = datetime.now(UTC)
        session.add(Study(study_instance_uid="1.2", received_at=now, last_received_at=now))
    with database.read() as session:
        document = study_document(session, "1.2")
        assert (document["ai_status"], document["priority"]) == ("pending", "none")
        assert count_by_class(session) == {("pending", "none"): 1}


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("ursula", ["5"]),
        ("Ursula Urgent", ["5"]),
        ("URGENT, URSULA", ["5"]),
        ("urgent^ursula", ["5"]),
        ("acc-3", ["3"]),
        ("pid-000", ["6", "5", "3", "7", "2", "1", "4"]),
        ("müller", ["8"]),
        ("MÜLLER ÄNNE", ["8"]),
        ("山田", ["6"]),
        ("%", ["8"]),
        ("_", ["8"]),
        ("d_0%8", ["8"]),
        ("\\", []),
        ("' OR 1=1 --", []),
        ("urgent rosa", []),
        ("nobody", []),
        ("\x00ursula\x00", ["5"]),
        ("  ", ["6", "8", "5", "3", "7", "2", "1", "4"]),
    ],
)
def test_search(filled: Database, search: str, expected: list[str]) -> None:
    assert found(filled, search) == expected


def test_status_priority_and_pages(filled: Database) -> None:
    with filled.read() as session:

        def numbers(**wanted: Any) -> list[str]:
            documents = list_studies(session, StudyFilter(**wanted))
            return [document["study_instance_uid"].rpartition(".")[2] for document in documents]

        assert numbers(status="failed") == ["3"]
        assert numbers(status="complete", priority="none") == ["1"]
        assert numbers(priority="urgent") == ["8", "5"]
        assert numbers(limit=2, offset=1) == ["8", "5"]
        assert numbers(limit=None, offset=6) == ["1", "4"]
        assert count_studies(session, StudyFilter(limit=2, offset=1)) == 8
        assert count_by_class(session)["complete", "urgent"] == 2
        assert count_by_class(session, "ursula") == {("complete", "urgent"): 1}


def test_a_page_takes_three_queries_however_many_studies(filled: Database) -> None:
    statements: list[str] = []
    sa.event.listen(filled.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    with filled.read() as session:
        assert len(list_studies(session, StudyFilter())) == 8
    assert len([s for s in statements if s.startswith("SELECT")]) == 3


def test_more_studies_than_a_statement_binds(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.studies._IDS_AT_ONCE", 3)
    with filled.read() as session:
        documents = list_studies(session, StudyFilter(limit=None))
    assert [d["study_instance_uid"] for d in documents] == EXPECTED_ORDER
    assert all(d["instances"]["received"] for d in documents)


def test_detail(filled: Database) -> None:
    with filled.read() as session:
        detail = study_detail(session, uid(7))
        document = study_document(session, uid(7))
    assert {key: detail[key] for key in KEYS} == document
    assert detail["remark"].startswith("No object says which body part")
    assert detail["generation"] == 1
    assert [series["instances"] for series in detail["series"]] == [1]
    (instance,) = detail["instances_detail"]
    assert instance["sop_instance_uid"] == f"{uid(7)}.1.1"
    assert (instance["calling_ae"], instance["status"]) == ("XRAY_ROOM_2", "classified")
    (prediction,) = instance["predictions"]
    assert prediction["probabilities"] == {"normal": 0.41, "pneumonia": 0.1, "covid": 0.52, "tuberculosis": 0.004}
    assert prediction["flagged"] == ["covid"]
    assert (prediction["model"], prediction["model_version"], prediction["recipe"]) == (
        "chest-film", "1.0.0", "chest_film",
    )  # fmt: skip
    assert prediction["id"]


def test_detail_with_few_instances_shows_what_matters_first(filled: Database) -> None:
    """The instance that a finding comes from, then failed ones, then the rest."""
    with filled.write() as session:
        first, last = session.scalars(
            sa.select(Instance).where(Instance.sop_instance_uid.startswith(uid(6))).order_by(Instance.id)  # type: ignore[attr-defined]
        )
        for place in range(3, 6):
            copy = first.model_dump(exclude={"id"}) | {
                "sop_instance_uid": f"{uid(6)}.1.{place}", "spool_name": f"6-{place}",
                "dataset_sha256": str(place), "status": "failed" if place == 5 else "classified",
            }  # fmt: skip
            session.add(Instance(**copy))
        study = session.get_one(Study, first.study_id)
        study.findings = [finding | {"sop_instance_uid": last.sop_instance_uid} for finding in study.findings]
    with filled.read() as session:
        few = study_detail(session, uid(6), instances=2)["instances_detail"]
        every = study_detail(session, uid(6))["instances_detail"]
    assert [instance["sop_instance_uid"] for instance in few] == [f"{uid(6)}.1.2", f"{uid(6)}.1.5"]
    assert few[0]["predictions"]
    assert len(every) == 5


@pytest.mark.parametrize("unknown", ["1.2.3.4", "", "../../etc/passwd", "1.2\x00", "1" * 65])
def test_not_found(filled: Database, unknown: str) -> None:
    with filled.read() as session:
        for look in (study_document, study_detail):
            with pytest.raises(NotFound, match="Study Instance UID"):
                look(session, unknown)


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("since", "heard", "expected"),
    [
        (10 * MINUTE, None, 600),
        (10 * MINUTE, 3 * MINUTE, 180),
        (1 * MINUTE, 60 * MINUTE, 60),
        (10 * MINUTE, 0 * MINUTE, 0),
        (-1 * MINUTE, 60 * MINUTE, None),
    ],
)
def test_silence(database: Database, since: timedelta, heard: timedelta | None, expected: float | None) -> None:
    owe_inference(database, since=since, heard=heard)
    with database.read() as session:
        silence = worker_silence(session)
    assert silence == (None if expected is None else pytest.approx(expected, abs=5))


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("inference chest-film@1.0.0 host", 600),
        ("inference chest-ct@1.0.0 host", 0),
        ("inference chest-film@2.0.0 host", 600),
        ("inference host", 0),
        ("delivery chest-ct@1.0.0 host", 600),
    ],
)
def test_a_model_without_a_worker_is_silence_though_another_has_one(
    database: Database, service: str, expected: float
) -> None:
    owe_inference(database, since=10 * MINUTE, heard=0 * MINUTE, service="inference chest-film@1.0.0 host")
    owe_inference(database, since=10 * MINUTE, heard=0 * MINUTE, lane="chest-ct@1.0.0", service=service)
    with database.read() as session:
        assert worker_silence(session) == pytest.approx(expected, abs=5)


def test_no_silence_when_nothing_is_due(filled: Database) -> None:
    with filled.read() as session:
        assert worker_silence(session) is None
        assert session.scalar(sa.select(sa.func.count()).select_from(Prediction))
