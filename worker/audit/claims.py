"""What the chain says of predictions, instances and reports, and whether their rows still say the same.

The last event about a row counts. What it says is kept in a private temporary database on disk, so that memory stays
bounded however long the chain is.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlmodel import Session, col

from worker.audit.chain import PAGE, Report, Row
from worker.audit.finding import Finding
from worker.audit.log import canonical, moment_text
from worker.database import Instance, ModelVersion, Prediction, Study
from worker.database import Report as ReportRow

Facts = dict[str, Any]
Locate = Callable[[str, str], Path | None]
"""Says where the bytes of a row lie: table and spool name or relative path in, None out where they are gone."""

_PREDICTION = (
    "instance", "model", "weights_sha256", "recipe", "engine", "device", "batch_size", "probabilities", "flagged",
    "thresholds", "environment",
)  # fmt: skip
_INSTANCE = ("study", "sha256", "calling_ae", "received_at")
_REPORT = ("study", "generation", "sha256")


def _prediction(subject: str, detail: Mapping[str, Any]) -> tuple[str, str, Facts]:
    facts = {name: detail[name] for name in _PREDICTION if name in detail}  # early events tell less
    return "prediction", str(detail["prediction"]), {"sop_instance_uid": subject} | facts


def _instance(subject: str, detail: Mapping[str, Any]) -> tuple[str, str, Facts]:
    facts = {name: detail[name] for name in _INSTANCE}
    facts["received_at"] = moment_text(datetime.fromisoformat(detail["received_at"]))
    return "instance", str(detail["instance"]), {"sop_instance_uid": subject} | facts


def _restored(subject: str, detail: Mapping[str, Any]) -> tuple[str, str, Facts]:
    return "instance", str(detail["instance"]), {"sop_instance_uid": subject, "sha256": detail["sha256"]}


def _report(subject: str, detail: Mapping[str, Any]) -> tuple[str, str, Facts]:
    return "report", subject, {name: detail[name] for name in _REPORT}


CLAIMS: dict[str, Callable[[str, Mapping[str, Any]], tuple[str, str, Facts]]] = {
    "prediction.made": _prediction,
    "prediction.remade": _prediction,
    "instance.registered": _instance,
    "instance.restored": _restored,
    "report.stored": _report,
}
"""Actions that say what a row holds: (subject, detail) to table, key, and the fields that must be so."""

BYTES_REMOVED = "bytes.removed"
"""What retention says of stored bytes that it has removed: `ids`, first and last number of each run of instances."""


class Claims:
    """Collects what events say, then compares the tables with it."""

    def __init__(self) -> None:
        self._scratch = sqlite3.connect("", isolation_level=None)
        self._scratch.execute("PRAGMA cache_size=-8192")
        self._scratch.executescript(
            "CREATE TABLE said (kind TEXT, key TEXT, event INTEGER, facts TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;"
            "CREATE TABLE met (kind TEXT, key TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;"
            "CREATE TABLE removed (first INTEGER, last INTEGER, event INTEGER); BEGIN"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()

    def take(self, row: Row) -> None:
        """Keep what an event says of a row; an event that is damaged says nothing (the chain names it)."""
        read = CLAIMS.get(row.action)
        if row.action == BYTES_REMOVED:
            self._take_removed(row)
        if read is None:
            return
        try:
            kind, key, facts = read(row.subject, json.loads(row.detail))
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        if row.action == "instance.restored" and (said := self._said(kind, key)):
            facts = said[1] | facts
        values = (kind, key, row.id, canonical(facts))
        self._scratch.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?)", values)

    def _take_removed(self, row: Row) -> None:
        try:
            ranges = [(int(first), int(last), row.id) for first, last in json.loads(row.detail)["ids"]]
        except (ValueError, TypeError, KeyError):
            return
        self._scratch.executemany("INSERT INTO removed VALUES (?, ?, ?)", ranges)

    def _is_removed(self, kind: str, key: str, since: int) -> bool:
        """Say whether retention has removed the bytes of an instance since the event that told of them last."""
        query = "SELECT EXISTS (SELECT 1 FROM removed WHERE ? BETWEEN first AND last AND event > ?)"
        return kind == "instance" and bool(self._scratch.execute(query, (int(key), since)).fetchone()[0])

    def _said(self, kind: str, key: str) -> tuple[int, Facts] | None:
        query = "SELECT event, facts FROM said WHERE kind = ? AND key = ?"
        found = self._scratch.execute(query, (kind, key)).fetchone()
        return (int(found[0]), json.loads(found[1])) if found else None

    def compare(self, session: Session, report: Report, locate: Locate | None = None) -> dict[str, int]:
        """Compare every row with what was said of it; return how many there are of each table.

        Parameters
        ----------
        report
            Is told of each row that differs, that nothing was said of, or that is gone.
        locate
            When given, the stored bytes are read as well, and their SHA-256 compared with what the chain says.
        """
        counts: dict[str, int] = {}
        for kind, rows in (
            ("instance", _instances(session)),
            ("prediction", predictions(session)),
            ("report", _reports(session)),
        ):
            counts[kind] = 0
            for key, place, facts in rows:
                counts[kind] += 1
                self._scratch.execute("INSERT OR IGNORE INTO met VALUES (?, ?)", (kind, key))
                said = self._said(kind, key)
                if said is None:
                    report(Finding(kind, _number(key), "the chain does not tell of it: it was slipped in"))
                    continue
                for what in differences(facts, *said):
                    report(Finding(kind, _number(key), what))
                if locate is None or not place or self._is_removed(kind, key, said[0]):
                    continue
                if what := _bytes_differ(locate(kind, place), *said):
                    report(Finding(kind, _number(key), what))
        query = (
            "SELECT kind, key, event FROM said WHERE NOT EXISTS"
            " (SELECT 1 FROM met WHERE met.kind = said.kind AND met.key = said.key) ORDER BY event"
        )
        with closing(self._scratch.execute(query)) as gone:
            for kind, key, event in gone:
                report(Finding(kind, _number(key), f"event {event} tells of it, and it is not there: deleted"))
        return counts


def differences(facts: Facts, event: int, said: Facts) -> Iterator[str]:
    """Say in words what of a row is not what an event says of it."""
    for name, value in said.items():
        if facts.get(name) != value:
            shown = f"{_shown(facts.get(name))}, the chain says {_shown(value)} (event {event})"
            yield f"{name} is {shown}: it was changed afterwards"


def _bytes_differ(path: Path | None, event: int, said: Facts) -> str:
    if path is None:
        return "its stored bytes are gone"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"its stored bytes cannot be read: {error.strerror}"
    if found != said.get("sha256"):
        return f"its stored bytes have SHA-256 {found}, the chain says {said.get('sha256')} (event {event})"
    return ""


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 200 else f"{text[:200]}…"


def _number(key: str) -> int | str:
    return int(key) if key.isdecimal() else key


def _read(session: Session, *columns: Any, where: Iterable[Any] = (), **tables: Any) -> Iterator[Any]:
    """Read a table in pages; JSON and moments come as the database keeps them, whatever somebody wrote there."""
    raw = [
        sa.type_coerce(column, sa.Text) if isinstance(column.type, (sa.JSON, sa.types.TypeDecorator)) else column
        for column in columns
    ]
    query = sa.select(*raw).where(*where)
    for target, condition in tables.values():
        query = query.outerjoin(target, condition)
    for page in session.execute(query.execution_options(yield_per=PAGE)).partitions():
        yield from page


def _loaded(value: Any) -> Any:
    """Return JSON as a value; what is none as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _instances(session: Session) -> Iterator[tuple[str, str, Facts]]:
    columns = (
        Instance.id, Instance.spool_name, Instance.sop_instance_uid, Study.study_instance_uid, Instance.sha256,
        Instance.calling_ae, Instance.received_at,
    )  # fmt: skip
    study = (Study, col(Study.id) == col(Instance.study_id))
    for number, place, uid, *values, received in _read(session, *columns, study=study):
        facts = dict(zip(_INSTANCE, (*values, moment_text(received)), strict=True))
        yield str(number), place, {"sop_instance_uid": uid} | facts


def predictions(session: Session, number: int | None = None) -> Iterator[tuple[str, str, Facts]]:
    """Yield key, nothing, and the facts of every prediction, or of one."""
    plain = (Prediction.recipe, Prediction.engine, Prediction.device, Prediction.batch_size)
    values = (Prediction.probabilities, Prediction.flagged, Prediction.thresholds, Prediction.environment)
    columns = (
        Prediction.id, Instance.sop_instance_uid, Prediction.instance_id, ModelVersion.name, ModelVersion.version,
        ModelVersion.weights_sha256, *plain, *values,
    )  # fmt: skip
    instance = (Instance, col(Instance.id) == col(Prediction.instance_id))
    version = (ModelVersion, col(ModelVersion.id) == col(Prediction.model_version_id))
    where = () if number is None else (col(Prediction.id) == number,)
    for row in _read(session, *columns, where=where, instance=instance, version=version):
        key, uid, instance_id, name, release, weights, *rest = row
        found = (instance_id, f"{name}@{release}", weights, *rest[:4], *map(_loaded, rest[4:]))
        yield str(key), "", {"sop_instance_uid": uid} | dict(zip(_PREDICTION, found, strict=True))


def _reports(session: Session) -> Iterator[tuple[str, str, Facts]]:
    columns = (
        ReportRow.sop_instance_uid, ReportRow.path, Study.study_instance_uid, ReportRow.generation, ReportRow.sha256,
    )  # fmt: skip
    study = (Study, col(Study.id) == col(ReportRow.study_id))
    for uid, place, *values in _read(session, *columns, study=study):
        yield uid, place, dict(zip(_REPORT, values, strict=True))
