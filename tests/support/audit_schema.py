"""The rules of the audit message schema (PS3.15 A.5.1.1, RELAX NG), written down as data and held against a message.

Each element: which attributes it must and may have (with the pattern of their values), and its children in order.
"""

import re
from xml.etree.ElementTree import Element

TOKEN = r"\S(.*\S)?"
UID = r"[0-9.]{1,64}"
BASE64 = r"[A-Za-z0-9+/]*={0,2}"
CODED = ({"csd-code": TOKEN, "codeSystemName": TOKEN, "originalText": TOKEN}, {"displayName": TOKEN}, ())
NOTHING = ({}, {}, ())
WHEN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)"

RULES = {
    "AuditMessage": (
        {}, {},
        (("EventIdentification", 1, 1), ("ActiveParticipant", 1, None), ("AuditSourceIdentification", 1, 1),
         ("ParticipantObjectIdentification", 0, None)),
    ),
    "EventIdentification": (
        {"EventDateTime": WHEN, "EventOutcomeIndicator": "0|4|8|12"}, {"EventActionCode": "[CRUDE]"},
        (("EventID", 1, 1), ("EventTypeCode", 0, None), ("EventOutcomeDescription", 0, 1)),
    ),
    "EventID": CODED, "EventTypeCode": CODED, "RoleIDCode": CODED, "ParticipantObjectIDTypeCode": CODED,
    "EventOutcomeDescription": NOTHING, "ParticipantObjectName": NOTHING,
    "ActiveParticipant": (
        {"UserID": r"(?s).*", "UserIsRequestor": "true|false|0|1"},
        {"AlternativeUserID": r"(?s).*", "UserName": r"(?s).*", "NetworkAccessPointID": TOKEN,
         "NetworkAccessPointTypeCode": "[1-5]"},
        (("RoleIDCode", 0, None), ("MediaIdentifier", 0, 1)),
    ),
    "AuditSourceIdentification": (
        {"AuditSourceID": TOKEN}, {"AuditEnterpriseSiteID": TOKEN}, (("AuditSourceTypeCode", 0, None),),
    ),
    "AuditSourceTypeCode": ({"csd-code": "[1-9]"}, {}, ()),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID": TOKEN},
        {"ParticipantObjectTypeCode": "[1-4]", "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
         "ParticipantObjectDataLifeCycle": "[1-9]|1[0-5]", "ParticipantObjectSensitivity": TOKEN},
        (("ParticipantObjectIDTypeCode", 1, 1), ("ParticipantObjectName", 1, 1), ("ParticipantObjectDetail", 0, None),
         ("ParticipantObjectDescription", 0, None)),
    ),
    "ParticipantObjectDetail": ({"type": TOKEN, "value": BASE64}, {}, ()),
    "ParticipantObjectDescription": (
        {}, {}, (("MPPS", 0, None), ("Accession", 0, None), ("SOPClass", 0, None)),
    ),
    "SOPClass": ({"NumberOfInstances": r"\d+"}, {"UID": UID}, (("Instance", 0, None),)),
    "Instance": ({"UID": UID}, {}, ()),
}  # fmt: skip


def breaches(element: Element) -> list[str]:
    """What in a message the schema does not allow."""
    rule = RULES.get(element.tag)
    if rule is None:
        return [f"{element.tag} is no element of the schema"]
    must, may, children = rule
    found = [f"{element.tag} lacks {name}" for name in must if name not in element.attrib]
    for name, value in element.attrib.items():
        pattern = (must | may).get(name)
        if pattern is None or re.fullmatch(pattern, value) is None:
            found.append(f"{element.tag} {name}={value!r}")
    tags = [child.tag for child in element]
    order = [name for name, _, _ in children]
    if tags != sorted(tags, key=lambda tag: order.index(tag) if tag in order else 99):
        found.append(f"{element.tag}: {tags} are not in order")
    for name, least, most in children:
        if not least <= tags.count(name) <= (len(tags) if most is None else most):
            found.append(f"{element.tag} has {tags.count(name)} {name}")
    return found + [breach for child in element for breach in breaches(child)]
