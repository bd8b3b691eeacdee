"""UIDs that are derived, never drawn: the same source gives the same UID, and a redelivery makes the same object."""

import hashlib
import json
import re
from uuid import UUID

from pydicom.uid import UID

_FORM = re.compile(r"(?=.*[0-9])[0-9.]{1,64}")
_COMPONENTS = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def derived_uid(*parts: str | int) -> str:
    """Return the UID of what `parts` name.

    2.25 and the first 128 bits of a SHA-256 over the parts, as a name-based UUID (PS3.5 B.2, RFC 4122): at most 44
    characters. The parts are joined as JSON, so that no two lists of parts run together.
    """
    digest = hashlib.sha256(json.dumps(["firstread", *parts]).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=5).int}"


def is_uid(value: str) -> bool:
    """Say whether a value can be taken as the UID that a source was given: 1 to 64 digits and dots."""
    return _FORM.fullmatch(value) is not None


def is_valid_uid(value: str) -> bool:
    """Say whether a value is a UID to the letter (PS3.5 9.1): no empty component, none with a leading zero."""
    return is_uid(value) and _COMPONENTS.fullmatch(value) is not None


IMPLEMENTATION_CLASS_UID = UID(derived_uid("implementation class"))
"""Names this software in the file meta information of what it writes (PS3.7 D.3.3.2)."""
