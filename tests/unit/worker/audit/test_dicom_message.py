"""Audit messages keep to the schema of PS3.15 A.5.1 whatever an event holds, and say who, what and which study."""

import ast
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import worker
from tests.support.audit_schema import breaches
from worker.audit.chain import Row
from worker.audit.dicom_message import dicom_message
from worker.audit.event_types import EVENT_TYPES, UNDER_THEIR_OWN_NAME, event_type
from worker.audit.syslog import syslog_message


def row(action: str, actor: str = "worker@host", subject: str = "1.2.3", **detail: object) -> Row:
    return Row(7, "2026-11-25 10:00:00.000001", actor, action, subject, json.dumps(detail), "0" * 64, "a" * 64)


def message(event: Row, study: str | None = "1.2", sop_class: str | None = None) -> ET.Element:
    kind = event_type(event.action)
    xml = dicom_message(event, kind, source="FIRSTREAD", study=study, sop_class=sop_class)
    return ET.fromstring(xml)  # noqa: S314 - our own


def codes(xml: ET.Element) -> tuple[str | None, str | None, str | None, str]:
    event = xml.find("EventIdentification")
    assert event is not None
    kind = event.find("EventTypeCode")
    (number,) = (one.get("csd-code") for one in event.findall("EventID"))
    return (
        number,
        None if kind is None else kind.get("csd-code"),
        event.get("EventActionCode"),
        event.attrib["EventOutcomeIndicator"],
    )


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("instance.registered", ("110104", None, "C", "0")),
        ("report.delivered", ("110104", None, "R", "0")),
        ("delivery.failed", ("110104", None, "R", "8")),
        ("prediction.made", ("110103", None, "R", "0")),
        ("study.viewed", ("110103", None, "R", "0")),
        ("studies.listed", ("110112", None, "E", "0")),
        ("access.refused", ("110113", "110132", "E", "4")),
        ("bytes.removed", ("110105", None, "D", "0")),
        ("backup.restored", ("110113", "110129", "E", "4")),
        ("audit.viewed", ("110101", None, "R", "0")),
        ("login.succeeded", ("110114", "110122", "E", "0")),
        ("login.failed", ("110114", "110122", "E", "4")),
        ("logout", ("110114", "110123", "E", "0")),
        ("user.added", ("110113", "110137", "E", "0")),
        ("intake.started", ("110100", "110120", "E", "0")),
        ("intake.stopped", ("110100", "110121", "E", "0")),
        ("coffee.made", ("coffee.made", None, "E", "0")),
        ("coffee.failed", ("coffee.failed", None, "E", "4")),
        ("coffee.refused", ("coffee.refused", None, "E", "4")),
    ],
)
def test_which_event_it_is(action: str, expected: tuple[object, ...]) -> None:
    assert codes(message(row(action))) == expected


@pytest.mark.parametrize("action", EVENT_TYPES)
def test_every_row_of_the_table_keeps_to_the_schema(action: str) -> None:
    assert breaches(message(row(action, error="it failed"), sop_class="1.2.840.10008.5.1.4.1.1.1.1")) == []


WRITERS = {"record", "_record", "append", "note", "_note", "write", "_write", "_tell", "say"}
"""The calls that an action is handed to, at the place where its name is written."""


def test_the_table_has_what_is_emitted_and_nothing_else() -> None:
    trees = [ast.parse(path.read_text()) for path in Path(worker.__path__[0]).rglob("*.py")]
    constants = {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    emitted = set()
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        for part in (part for argument in call.args if name in WRITERS for part in ast.walk(argument)):
            text = constants.get(part.id) if isinstance(part, ast.Name) else getattr(part, "value", None)
            if isinstance(text, str) and re.fullmatch(r"[a-z]+\.(?!json)[a-z_]+|logout", text):
                emitted.add(text)
    # Or an event as a whole, before it is written with others: what was done, of what, and the rest of it.
    for event in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Tuple)):
        first = getattr(event.elts[0], "value", None) if len(event.elts) == 3 else None
        if isinstance(first, str) and re.fullmatch(r"[a-z]+\.(?!json)[a-z_]+", first):
            emitted.add(first)
    assert {"audit.restored", "intake.stopped", "study.viewed", "prediction.remade", "user.disabled"} <= emitted
    assert emitted == set(EVENT_TYPES) | UNDER_THEIR_OWN_NAME
    assert not set(EVENT_TYPES) & UNDER_THEIR_OWN_NAME


@pytest.mark.parametrize("action", sorted({*EVENT_TYPES, *UNDER_THEIR_OWN_NAME}))
def test_what_was_refused_or_failed_is_no_success(action: str) -> None:
    warnings = {"audit.restored", "backup.restored"}  # done, and a Security Alert of more than informative weight
    not_done = action.endswith(("failed", "refused", "not_committed"))
    assert (event_type(action).outcome != "0") == (not_done or action in warnings)


@pytest.mark.parametrize("hostile", ["\0\x01]]>&<\"'", "\ud800", "\ufffe", "", " ", "é" * 5000, "a\nb"])
def test_nothing_that_an_event_holds_breaks_the_message(hostile: str) -> None:
    event = row("delivery.failed", actor=hostile, subject=hostile, error=hostile, destination=hostile)
    xml = dicom_message(event, event_type(event.action), source="FIRSTREAD", study=None, sop_class=None)
    frame = syslog_message(xml, outcome="8", at="2026-11-25T10:00:00+00:00", host=f"h{hostile}")
    assert ET.fromstring(xml).tag == "AuditMessage"  # noqa: S314 - our own
    assert frame.startswith(b"<83>1 2026-11-25T10:00:00+00:00 h")


def test_source_and_destination_of_a_transfer() -> None:
    xml = message(row("report.delivered", destination="PACS@192.0.2.1:104"))
    shown = [
        (one.get("UserID"), one.get("NetworkAccessPointID"), one.find("RoleIDCode").get("csd-code"))  # type: ignore[union-attr]
        for one in xml.findall("ActiveParticipant")
    ]
    assert shown == [("worker", "host", "110153"), ("PACS", "192.0.2.1", "110152")]
    xml = message(row("instance.registered", actor="intake@host", calling_ae="CT1"))
    assert [one.get("UserID") for one in xml.findall("ActiveParticipant")] == ["CT1", "intake"]


def test_a_user_is_named_with_where_from() -> None:
    xml = message(row("login.failed", actor="jane", why="wrong password", **{"from": "192.0.2.7"}))
    (who,) = xml.findall("ActiveParticipant")
    assert who.attrib == {
        "UserID": "jane", "UserIsRequestor": "true", "NetworkAccessPointID": "192.0.2.7",
        "NetworkAccessPointTypeCode": "2",
    }  # fmt: skip
    assert xml.findtext("EventIdentification/EventOutcomeDescription") == "wrong password"
