"""The audit chain on both databases: whole, ordered, and telling when a row was changed."""

import threading

import pytest
from sqlmodel import col, select

from worker import schema
from worker.audit.log import GENESIS, append, digest
from worker.database import AuditEvent, Database


@pytest.fixture
def database(database_url: str):
    made = Database(database_url)
    schema.migrate(made)
    yield made
    made.dispose()


def chain(database: Database) -> list[AuditEvent]:
    with database.read() as session:
        return list(session.exec(select(AuditEvent).order_by(col(AuditEvent.id))).all())


def test_each_event_carries_the_digest_of_the_one_before(database: Database) -> None:
    with database.write() as session:
        for number in range(3):
            append(session, "report.stored", f"1.2.{number}", {"b": 1, "a": number}, actor="test")
    events = chain(database)
    assert [e.previous_sha256 for e in events] == [GENESIS, events[0].sha256, events[1].sha256]
    assert [digest(e) for e in events] == [e.sha256 for e in events]
    assert events[0].detail == '{"a":0,"b":1}'


@pytest.mark.parametrize("field", ["actor", "action", "subject", "detail", "previous_sha256"])
def test_a_changed_event_no_longer_fits_its_digest(database: Database, field: str) -> None:
    with database.write() as session:
        append(session, "report.stored", "1.2.3", {"a": 1}, actor="test")
    (event,) = chain(database)
    setattr(event, field, "changed")
    assert digest(event) != event.sha256


def test_an_event_goes_with_the_transaction_it_tells_of(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:  # noqa: PT012 - the append belongs to the block
        append(session, "report.stored", "1.2.3", {}, actor="test")
        raise RuntimeError("rolled back")
    assert chain(database) == []


def test_writers_at_once_make_one_chain(database: Database) -> None:
    def write(actor: str) -> None:
        for number in range(20):
            with database.write() as session:
                append(session, "prediction.made", str(number), {}, actor=actor)

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = chain(database)
    assert len(events) == 80
    assert [e.previous_sha256 for e in events] == [GENESIS, *(e.sha256 for e in events[:-1])]
