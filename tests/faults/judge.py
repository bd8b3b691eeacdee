"""The judge: what the senders were told, held against rows, files and what the PACS has. It asks nobody of firstread.

An object counts once by its SOP Instance UID and the SHA-256 of its data set. `lost`: answered with 0x0000, and at the
end not complete, failed or not eligible, or its bytes are not in the spool as they were sent. `doubled`: more than one
row, prediction, report of a generation, or more than one report (by UID, or by bytes) at the PACS where there is one.
`wrong`: anything else that is not as it should be.
"""

import hashlib
import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.faults.pacs import Arrival
from tests.faults.scans import Scan

FINAL = ("classified", "failed", "not_eligible")


@dataclass(frozen=True)
class Row:
    """An instance as its row says."""

    id: int
    sop_instance_uid: str
    digest: str
    status: str
    reportable: bool
    spool_name: str
    study_instance_uid: str


@dataclass(frozen=True)
class Rows:
    """All that the judge reads of the database."""

    instances: tuple[Row, ...] = ()
    predictions: tuple[tuple[int, int], ...] = ()
    """Instance and model version."""
    reports: tuple[tuple[str, int, str], ...] = ()
    """Study Instance UID, generation, SOP Instance UID."""
    deliveries: tuple[tuple[str, str, int], ...] = ()
    """SOP Instance UID of the report, status, attempts."""
    delivery_work: tuple[tuple[str, str], ...] = ()
    """SOP Instance UID of the report, what the work of its delivery says; to understand what went wrong."""
    open_work: int = 0
    lost_leases: int = 0
    """How often work was taken from a worker that had vanished, or was believed to have."""


@dataclass(frozen=True)
class Expected:
    """What a scenario knows better than the rule.

    Attributes
    ----------
    statuses
        By SOP Instance UID and digest; `classified` unless given, `any` of the final ones where the fault decides.
    generations
        Reports of a study, by its UID; one unless given, None where the fault decides (one at least).
    """

    statuses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    generations: Mapping[str, int | None] = field(default_factory=dict)


@dataclass
class Verdict:
    """What the judge found; all three empty is innocence."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def judge(
    accepted: Mapping[tuple[str, str], Scan],
    rows: Rows,
    files: Mapping[str, str],
    arrivals: Sequence[Arrival],
    expected: Expected = Expected(),
) -> Verdict:
    """Hold everything against everything.

    Parameters
    ----------
    accepted
        What was answered with 0x0000.
    files
        By spool name, the SHA-256 of the data set that lies there now.
    arrivals
        What the PACS has kept, one entry for each time.
    """
    verdict = Verdict(len(accepted))
    studies = {scan.study_instance_uid for scan in accepted.values()}
    ours = [row for row in rows.instances if row.study_instance_uid in studies]
    _judge_instances(verdict, accepted, ours, files, expected)
    _judge_predictions(verdict, rows, ours)
    for study in sorted(studies):
        _judge_reports(verdict, study, [row for row in ours if row.study_instance_uid == study], rows, expected)
        _judge_arrivals(verdict, study, [row for row in ours if row.study_instance_uid == study], rows, arrivals)
    return verdict


def _judge_instances(
    verdict: Verdict,
    accepted: Mapping[tuple[str, str], Scan],
    ours: Sequence[Row],
    files: Mapping[str, str],
    expected: Expected,
) -> None:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in ours:
        found[row.sop_instance_uid, row.digest].append(row)
    for key in accepted:
        candidates = found.get(key, [])
        if not candidates:
            verdict.lost.append(f"{key[0]}: it has no row")
            continue
        if len(candidates) > 1:
            verdict.doubled.append(f"{key[0]}: it has {len(candidates)} rows")
        row = candidates[0]
        wanted = expected.statuses.get(key, "classified")
        if row.status not in FINAL:
            verdict.lost.append(f"{key[0]}: it is {row.status} at the end")
        elif wanted not in {"any", row.status}:
            verdict.wrong.append(f"{key[0]}: it is {row.status}, not {wanted}")
        if files.get(row.spool_name) != key[1]:
            kept = "other bytes" if row.spool_name in files else "nothing"
            verdict.lost.append(f"{key[0]}: {kept} in the spool where its bytes should be")
    for name, count in Counter(row.spool_name for row in ours).items():
        if count > 1:
            verdict.doubled.append(f"{name}: {count} rows for one file")


def _judge_predictions(verdict: Verdict, rows: Rows, ours: Sequence[Row]) -> None:
    counted = Counter(rows.predictions)
    for row in ours:
        of_it = {key: count for key, count in counted.items() if key[0] == row.id}
        if any(count > 1 for count in of_it.values()):
            verdict.doubled.append(f"{row.sop_instance_uid}: more than one prediction of one model version")
        if row.status == "classified" and not of_it:
            verdict.lost.append(f"{row.sop_instance_uid}: it is classified, and there is no prediction")


def _judge_reports(verdict: Verdict, study: str, ours: Sequence[Row], rows: Rows, expected: Expected) -> None:
    reports = [(generation, uid) for of, generation, uid in rows.reports if of == study]
    generations = sorted(generation for generation, _ in reports)
    for generation, count in Counter(generations).items():
        if count > 1:
            verdict.doubled.append(f"study {study}: {count} reports of generation {generation}")
    distinct = sorted(set(generations))
    if distinct != list(range(1, len(distinct) + 1)):
        verdict.wrong.append(f"study {study}: generations {distinct}")
    least = 1 if any(row.reportable for row in ours) else 0
    wanted = expected.generations.get(study, least)
    if (len(distinct) < least) if wanted is None else (len(distinct) != wanted):
        verdict.wrong.append(f"study {study}: {len(distinct)} generations of its report, not {wanted or least}")
    delivered = Counter(uid for uid, status, _ in rows.deliveries if status == "delivered")
    for _, uid in reports:
        if not delivered[uid]:
            said = ", ".join(status for of, status, _ in rows.deliveries if of == uid) or "nothing of a delivery"
            work = ", ".join(words for of, words in rows.delivery_work if of == uid) or "none"
            verdict.wrong.append(f"report {uid}: its row says {said}, not delivered; its work: {work}")


def _judge_arrivals(verdict: Verdict, study: str, ours: Sequence[Row], rows: Rows, arrivals: Sequence[Arrival]) -> None:
    there = [arrival for arrival in arrivals if arrival.study_instance_uid == study]
    by_uid: dict[str, set[str]] = defaultdict(set)
    for arrival in there:
        by_uid[arrival.sop_instance_uid].add(arrival.digest)
    known = {uid: generation for of, generation, uid in rows.reports if of == study}
    for uid, digests in by_uid.items():
        if len(digests) > 1:
            verdict.doubled.append(f"report {uid}: the PACS was sent {len(digests)} different ones under one UID")
        if uid not in known:
            verdict.doubled.append(f"report {uid}: the PACS has it, and no generation of study {study} is this one")
    for uid in known.keys() - by_uid.keys():
        verdict.wrong.append(f"report {uid} of study {study}: the PACS does not have it")
    if known and (newest := max(known, key=lambda uid: known[uid])) in by_uid:
        evidence = next(arrival.evidence for arrival in there if arrival.sop_instance_uid == newest)
        missing = {row.sop_instance_uid for row in ours if row.reportable} - evidence
        verdict.wrong += [f"study {study}: its newest report does not speak of {uid}" for uid in sorted(missing)]


def read_rows(url: str) -> Rows:
    """Read the database in plain SQL, through its own driver; whatever it raises is the caller's."""
    queries = {
        "instances": "SELECT i.id, i.sop_instance_uid, i.dataset_sha256, i.status, i.reportable, i.spool_name, "
        "s.study_instance_uid FROM instance i JOIN study s ON s.id = i.study_id",
        "predictions": "SELECT instance_id, model_version_id FROM prediction",
        "reports": "SELECT s.study_instance_uid, r.generation, r.sop_instance_uid FROM report r "
        "JOIN study s ON s.id = r.study_id WHERE r.kind = 'sr'",
        "deliveries": "SELECT r.sop_instance_uid, d.status, d.attempts FROM delivery d "
        "JOIN report r ON r.id = d.report_id",
        "delivery_work": "SELECT r.sop_instance_uid, w.state, w.attempts, w.lost_leases, w.last_error FROM work_item w "
        "JOIN delivery d ON d.id = w.subject_id JOIN report r ON r.id = d.report_id WHERE w.kind = 'deliver'",
        "open_work": "SELECT count(*) FROM work_item WHERE state IN ('owed', 'leased')",
        "lost_leases": "SELECT coalesce(sum(lost_leases), 0) FROM work_item",
    }
    found = _read_all(url, queries)
    return Rows(
        instances=tuple(Row(*row[:4], bool(row[4]), *row[5:]) for row in found["instances"]),
        predictions=tuple((row[0], row[1]) for row in found["predictions"]),
        reports=tuple((row[0], row[1], row[2]) for row in found["reports"]),
        deliveries=tuple((row[0], row[1], row[2]) for row in found["deliveries"]),
        delivery_work=tuple(
            (uid, f"{state} after {attempts} attempts and {lost} lost leases ({error})")
            for uid, state, attempts, lost, error in found["delivery_work"]
        ),
        open_work=int(found["open_work"][0][0]),
        lost_leases=int(found["lost_leases"][0][0]),
    )


def _read_all(url: str, queries: Mapping[str, str]) -> dict[str, list[Any]]:
    """Ask everything of one state of the database."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(str(sa.make_url(url).database), timeout=30, isolation_level=None)
        try:
            connection.execute("BEGIN")
            return {name: connection.execute(query).fetchall() for name, query in queries.items()}
        finally:
            connection.close()
    import psycopg

    with psycopg.connect(url, connect_timeout=5) as server:
        server.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        server.execute("SET statement_timeout = '20s'")
        return {name: server.execute(query).fetchall() for name, query in queries.items()}


def read_files(spool_dir: Path, names: Iterable[str]) -> dict[str, str]:
    """By spool name, the SHA-256 of the data set that lies there; what is not there is left out."""
    digests: dict[str, str] = {}
    for name in names:
        for path in (spool_dir / "stored" / name[:8] / f"{name}.dcm", spool_dir / "incoming" / f"{name}.dcm"):
            if path.is_file():
                digests[name] = hashlib.sha256(data_set_of(path.read_bytes())).hexdigest()
                break
    return digests


def data_set_of(file: bytes) -> bytes:
    """What stands behind the file meta information (PS3.10 7.1): its group length says where that ends."""
    if file[128:132] != b"DICM" or file[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        return b""
    return file[144 + struct.unpack_from("<L", file, 140)[0] :]
