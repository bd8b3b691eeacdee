"""A database as a release had it: rows in every table, kept in a small text file and put back into that schema.

`python -m tests.support.schema_fixture` writes the file of the newest schema: to be run, and the file committed, before
a migration is marked released.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from sqlmodel import delete

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker import schema
from worker.backup import tables
from worker.config import Peer
from worker.database import Database, Heartbeat, WorkKind, utc_now
from worker.errors import PeerUnreachable
from worker.reporting import pacs

FIXTURES = Path(__file__).parents[1] / "fixtures" / "schema"
OLDEST = "0001"
"""The first schema that was released."""

Content = dict[str, dict[str, Any]]
"""Of each table its columns and its rows, as `worker.backup.tables` writes them."""


def content_of(database: Database) -> Content:
    """Read every row of every table."""
    with database.engine.connect() as connection:
        return {
            table.name: {"columns": list(table.columns.keys()), "rows": list(tables.rows(connection, table))}
            for table in tables.reflected(connection)
        }


def put_back(database: Database, revision: str) -> Content:
    """Make the schema of a release in an empty database and fill it with the rows of its fixture; return these."""
    content: Content = json.loads((FIXTURES / f"{revision}.json").read_text())
    with schema.changing(database) as connection:
        schema.upgrade(connection, revision)
        made = tables.reflected(connection)
        assert {table.name for table in made} == content.keys()
        for table in made:
            tables.insert(connection, table, content[table.name]["columns"], content[table.name]["rows"])
        tables.go_on_counting(connection, made)
    return content


def _fill(directory: Path) -> Database:
    """Let a pipeline leave work in every state behind, and names in every script."""
    pipeline = make_pipeline(
        f"sqlite:///{directory}/firstread.db", directory, destinations=[Peer.parse("PACS@192.0.2.1:104")]
    )

    def accept(*_: Any, **__: Any) -> pacs.Delivered:
        return pacs.Delivered(sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34", status=0, warning=None)

    def refuse(*_: Any, **__: Any) -> pacs.Delivered:
        raise PeerUnreachable("no answer within 10 s")

    def through() -> None:
        pipeline.register_arrivals()
        pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
        pipeline.report()
        pipeline.deliver()

    pacs.deliver = accept
    names = {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]}
    spool_object(pipeline.spool, film(PatientID="DONE", **names))
    cut = film(PatientID="CUT", PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100")
    cut.PixelData = b"\0\0"
    spool_object(pipeline.spool, cut)
    spool_object(pipeline.spool, film(PatientID="LATERAL", ViewPosition="LL", StudyInstanceUID="no uid"))
    through()
    pacs.deliver = refuse
    spool_object(pipeline.spool, film(PatientID="UNDELIVERED"))
    through()
    for patient in ("OWED", "LEASED"):
        spool_object(pipeline.spool, film(PatientID=patient, SOPInstanceUID=generate_uid(prefix=None)))
    pipeline.register_arrivals()
    pipeline.work.claim(WorkKind.INFER, lane=MODEL, limit=1)
    with pipeline.database.write() as session:
        session.exec(delete(Heartbeat))  # they name this machine
        session.add(Heartbeat(service=f"inference {MODEL} host", at=utc_now()))
    return pipeline.database


def _as_text(content: Content) -> str:
    """Write one row a line."""
    parts = []
    for name, entry in content.items():
        rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in entry["rows"])
        columns = json.dumps(entry["columns"])
        parts.append(f'{json.dumps(name)}: {{"columns": {columns}, "rows": [\n{rows}\n]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = _fill(Path(directory))
        content = content_of(database)
        database.dispose()
    empty = sorted(name for name, entry in content.items() if not entry["rows"])
    if empty:
        print(f"these tables have no row: fill them in `_fill` first: {', '.join(empty)}", file=sys.stderr)
        raise SystemExit(1)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    path = FIXTURES / f"{schema.newest()}.json"
    path.write_text(_as_text(content))
    print(path)


if __name__ == "__main__":
    main()
