"""An audit event as a DICOM audit message: the XML of PS3.15 A.5.1, its fields filled as A.5.2 and A.5.3 say.

No patient stands in it, for none stands in the chain: the study is named by its UID. The event itself goes along as one
more participant object, its number, digests and detail in base64, so that a receiver holds a copy of the chain.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from worker.audit.chain import Row
from worker.audit.event_types import OWN_SCHEME, Code, EventType
from worker.audit.log import moment_text

APPLICATION = Code("110150", "Application")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")
STUDY = Code("110180", "Study Instance UID")
CHAIN = Code("audit_event", "Number in the audit chain", OWN_SCHEME)

APPLICATION_SERVER = "4"
"""AuditSourceTypeCode (PS3.15 A.5.1.2.1)."""

SYSTEM_OBJECT, REPORT, SECURITY_RESOURCE = "2", "3", "13"
"""ParticipantObjectTypeCode, and two of ParticipantObjectTypeCodeRole (PS3.15 A.5.1.2.2)."""

OUTCOME_WORDS = ("error", "reason", "why")
"""Fields of a detail that say why something failed."""


def dicom_message(row: Row, kind: EventType, *, source: str, study: str | None, sop_class: str | None) -> bytes:
    """Return the XML of an event.

    Parameters
    ----------
    kind
        Which DICOM event it is.
    source
        AuditSourceID: our AE title.
    study
        Study Instance UID, where the event is about one.
    sop_class
        SOP Class UID of the instance that is the event's subject; None where it is no instance.
    """
    detail = _detail(row)
    message = Element("AuditMessage")
    identification = SubElement(
        message,
        "EventIdentification",
        EventActionCode=kind.action,
        EventDateTime=moment_text(row.at),
        EventOutcomeIndicator=kind.outcome,
    )
    _coded(identification, "EventID", kind.event)
    if kind.kind is not None:
        _coded(identification, "EventTypeCode", kind.kind)
    why = next((str(detail[name]) for name in OUTCOME_WORDS if detail.get(name)), "")
    if kind.outcome != "0" and why:
        SubElement(identification, "EventOutcomeDescription").text = _clean(why)
    _participants(message, row, kind, detail)
    audit_source = SubElement(message, "AuditSourceIdentification", AuditSourceID=_clean(source))
    SubElement(audit_source, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
    if study is not None:
        _study(message, row, study, sop_class)
    _event(message, row)
    xml: bytes = tostring(message, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>' + xml


def _detail(row: Row) -> Mapping[str, Any]:
    try:
        detail = json.loads(row.detail)
    except ValueError:  # somebody changed it; it goes out as it stands, in base64
        return {}
    return detail if isinstance(detail, dict) else {}


def _participants(message: Element, row: Row, kind: EventType, detail: Mapping[str, Any]) -> None:
    """Name who did it, and the other side of a transfer (PS3.15 A.5.3.7: the source, then the destination)."""
    if kind.receives:
        other = str(detail.get("calling_ae") or "unknown")
        _participant(message, other, SOURCE, requestor=True)
        _participant(message, row.actor, DESTINATION, requestor=False)
    elif kind.sends:
        _participant(message, row.actor, SOURCE, requestor=True)
        _participant(message, str(detail.get("destination") or "unknown"), DESTINATION, requestor=False)
    else:
        address = detail.get("from")
        role = APPLICATION if "@" in row.actor else None
        _participant(message, row.actor, role, requestor=True, address=str(address) if address else None)


def _participant(message: Element, who: str, role: Code | None, *, requestor: bool, address: str | None = None) -> None:
    """Write a participant: `service@host`, `AE@HOST:PORT`, or a user or AE title alone."""
    user, at, place = who.rpartition("@")
    if address is None and at:
        host, colon, port = place.rpartition(":")
        address = host.strip("[]") if colon and port.isdigit() else place
    attributes = {"UserID": _clean(user or who), "UserIsRequestor": "true" if requestor else "false"}
    if address:
        attributes["NetworkAccessPointID"] = _clean(address)
        attributes["NetworkAccessPointTypeCode"] = "2" if _is_ip(address) else "1"
    participant = SubElement(message, "ActiveParticipant", attributes)
    if role is not None:
        _coded(participant, "RoleIDCode", role)


def _is_ip(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def _study(message: Element, row: Row, study: str, sop_class: str | None) -> None:
    found = _object(message, study, STUDY, REPORT, "study")
    if sop_class is not None:
        description = SubElement(found, "ParticipantObjectDescription")
        uid = {"UID": _clean(sop_class)} if sop_class else {}
        instances = SubElement(description, "SOPClass", uid | {"NumberOfInstances": "1"})
        SubElement(instances, "Instance", UID=_clean(row.subject))


def _event(message: Element, row: Row) -> None:
    found = _object(message, str(row.id), CHAIN, SECURITY_RESOURCE, row.action)
    for name in ("subject", "detail", "previous_sha256", "sha256"):
        value = b64encode(str(getattr(row, name)).encode("utf-8", "backslashreplace")).decode()
        SubElement(found, "ParticipantObjectDetail", type=name, value=value)


def _object(message: Element, number: str, kind: Code, role: str, name: str) -> Element:
    attributes = {
        "ParticipantObjectID": _clean(number),
        "ParticipantObjectTypeCode": SYSTEM_OBJECT,
        "ParticipantObjectTypeCodeRole": role,
    }
    found = SubElement(message, "ParticipantObjectIdentification", attributes)
    _coded(found, "ParticipantObjectIDTypeCode", kind)
    SubElement(found, "ParticipantObjectName").text = _clean(name)
    return found


def _coded(parent: Element, name: str, code: Code) -> None:
    attributes = {
        "csd-code": _clean(code.value),
        "codeSystemName": code.scheme,
        "displayName": _clean(code.meaning),
        "originalText": _clean(code.meaning),
    }
    SubElement(parent, name, attributes)


def _clean(text: str) -> str:
    """Leave out what XML 1.0 cannot say (2.2): control characters, lone surrogates, non-characters."""
    return "".join(
        c for c in text if c in "\t\n\r" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) > 0xFFFF
    )
