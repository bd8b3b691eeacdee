"""The judge sees: each made-up loss and double is named, and nothing is where there is none."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.judge import Expected, Row, Rows, Verdict, data_set_of, judge, read_files, read_rows
from tests.faults.pacs import Arrival
from tests.faults.scans import Answered, Modality, Scan, acknowledged, scan
from worker import schema
from worker.database import Database

SCAN = Scan("1.2", "1.2.3", "1.2.9", b"bytes")
KEY = (SCAN.sop_instance_uid, SCAN.digest)
ROW = Row(7, SCAN.sop_instance_uid, SCAN.digest, "classified", True, "name", SCAN.study_instance_uid)
ARRIVAL = Arrival("2.25.1", SCAN.study_instance_uid, "digest", frozenset({SCAN.sop_instance_uid}))
ROWS = Rows((ROW,), ((7, 1),), (("1.2.9", 1, "2.25.1"),), (("2.25.1", "delivered", 1),))


def verdict(**changes: Any) -> Verdict:
    """One accepted object that went the whole way, with something changed."""
    given: dict[str, Any] = {
        "accepted": {KEY: SCAN},
        "rows": ROWS,
        "files": {"name": SCAN.digest},
        "arrivals": [ARRIVAL],
        "expected": Expected(),
    }
    return judge(**given | changes)


def counts(found: Verdict) -> tuple[int, int, int]:
    return len(found.lost), len(found.doubled), len(found.wrong)


def test_an_object_that_went_the_whole_way() -> None:
    assert verdict() == Verdict(acknowledged=1)


def test_a_report_that_came_twice_with_the_same_bytes_is_one() -> None:
    assert verdict(arrivals=[ARRIVAL, ARRIVAL]) == Verdict(acknowledged=1)


def test_what_is_of_another_trial_is_not_judged() -> None:
    other = replace(ROW, id=8, sop_instance_uid="9", study_instance_uid="9.9", status="pending", spool_name="other")
    assert verdict(rows=replace(ROWS, instances=(ROW, other))) == Verdict(acknowledged=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": replace(ROWS, instances=())},
        {"rows": replace(ROWS, instances=(replace(ROW, status="pending"),))},
        {"rows": replace(ROWS, instances=(replace(ROW, digest="another"),))},
        {"files": {}},
        {"files": {"name": "of other bytes"}},
        {"rows": replace(ROWS, predictions=())},
    ],
    ids=["no row", "pending", "other bytes", "no file", "changed file", "no prediction"],
)
def test_a_loss(changes: dict[str, Any]) -> None:
    assert verdict(**changes).lost


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": replace(ROWS, instances=(ROW, replace(ROW, id=8, spool_name="again")))},
        {"rows": replace(ROWS, instances=(ROW, replace(ROW, id=8, sop_instance_uid="1.2.4")))},
        {"rows": replace(ROWS, predictions=((7, 1), (7, 1)))},
        {"rows": replace(ROWS, reports=(*ROWS.reports, ("1.2.9", 1, "2.25.2")))},
        {"arrivals": [ARRIVAL, replace(ARRIVAL, sop_instance_uid="2.25.2")]},
        {"arrivals": [ARRIVAL, replace(ARRIVAL, digest="other bytes")]},
    ],
    ids=["two rows", "two rows of a file", "two predictions", "two reports", "two at the PACS", "one UID, two reports"],
)
def test_a_double(changes: dict[str, Any]) -> None:
    assert verdict(**changes).doubled


@pytest.mark.parametrize(
    "changes",
    [
        {"arrivals": []},
        {"rows": replace(ROWS, deliveries=(("2.25.1", "pending", 3),))},
        {"rows": replace(ROWS, reports=(), deliveries=()), "arrivals": []},
        {"rows": replace(ROWS, reports=(("1.2.9", 2, "2.25.1"),))},
        {"rows": replace(ROWS, instances=(replace(ROW, status="failed"),))},
        {"arrivals": [replace(ARRIVAL, evidence=frozenset({"1.2.4"}))]},
        {"expected": Expected(generations={"1.2.9": 2})},
        {"expected": Expected(statuses={KEY: "failed"})},
    ],
    ids=["not sent", "not delivered", "no report", "gap", "failed", "not spoken of", "one more is due", "not failed"],
)
def test_something_else(changes: dict[str, Any]) -> None:
    assert verdict(**changes).wrong


def test_only_success_is_an_acknowledgement() -> None:
    modality = Modality(0)
    modality.log += [Answered(SCAN, None, 0.0), Answered(replace(SCAN, data=b"other"), 0xA700, 0.0)]
    assert acknowledged([modality]) == {}
    modality.log.append(Answered(SCAN, 0, 1.0))
    assert acknowledged([modality, modality]) == {KEY: SCAN}


def test_the_database_is_read_as_it_is(database_url: str) -> None:
    database = Database(database_url)
    schema.migrate(database)
    database.dispose()
    assert read_rows(database_url) == Rows()


def test_a_data_set_is_what_stands_behind_the_meta_information(tmp_path: Any) -> None:
    one = scan()
    meta = b"\2\0\x10\0UI\4\0" + b"1.2\0"
    head = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little")
    assert data_set_of(head + meta + one.data) == one.data
    assert data_set_of(b"something else" * 20) == b""
    folder = tmp_path / "stored" / "20261125"
    folder.mkdir(parents=True)
    (folder / "20261125T1.dcm").write_bytes(head + meta + one.data)
    assert read_files(tmp_path, ["20261125T1", "nowhere"]) == {"20261125T1": hashlib.sha256(one.data).hexdigest()}
