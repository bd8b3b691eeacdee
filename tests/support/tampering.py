"""What somebody does who owns the database and wants the audit trail to say something else."""

import sqlalchemy as sa
from sqlmodel import col, select

from worker.audit.log import GENESIS, append, digest
from worker.database import AuditEvent, Database

TABLES = ("audit_event", "audit_head")


def unguarded(database: Database) -> None:
    """Take the triggers away, as the owner of the database may."""
    with database.engine.begin() as connection:
        if database.is_sqlite:
            for name in connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            for table in TABLES:
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")


def execute(database: Database, statement: str, **values: object) -> None:
    """Run a statement of SQL on the database."""
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def chained_again(database: Database, first: int) -> None:
    """Give the events from `first` on digests that fit each other, and the head what fits them."""
    with database.write() as session:
        earlier = select(AuditEvent).where(AuditEvent.id < first).order_by(col(AuditEvent.id).desc())
        before = session.exec(earlier).first()
        previous = before.sha256 if before else GENESIS
        for event in session.exec(select(AuditEvent).where(col(AuditEvent.id) >= first).order_by(col(AuditEvent.id))):
            event.previous_sha256 = previous
            event.sha256 = previous = digest(event)
            session.add(event)
    execute(
        database,
        "UPDATE audit_head SET count = (SELECT count(*) FROM audit_event), last_sha256 = :sha,"
        " last_id = (SELECT max(id) FROM audit_event)",
        sha=previous,
    )


def events(database: Database, count: int) -> None:
    """Append events."""
    with database.write() as session:
        for number in range(count):
            append(session, "study.reprocessed", f"1.2.{number}", {"owed": number}, actor="test")
