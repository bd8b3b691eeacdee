"""Whose report it is: the patient and study attributes of a source, fit for an object that must be valid.

A report is filed by what it says of patient and study, so these say what the source says. Patient ID and name are taken
as they are, whatever is wrong with them. Any other value that breaks its own rules is left out, since it would make the
whole report invalid: silently where it only describes (an age of "62"), with a remark where it identifies (an accession
number too long for its VR). Attributes of type 2 are there, if empty.
"""

import re
import warnings
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import config
from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import PersonName, validate_value

from worker.file_format import find_data_set
from worker.guarded.frugal import frugal
from worker.logs import get_logger
from worker.reporting import character_sets

log = get_logger(__name__)

PATIENT = ("PatientID", "PatientName")
"""Taken as they are: a report must never be filed with somebody else, nor with nobody."""

STUDY = ("AccessionNumber", "StudyID", "StudyDate")
"""Left empty, with a remark, where the value is bad."""

REQUIRED = ("PatientBirthDate", "PatientSex", "StudyTime", "ReferringPhysicianName")
"""The others of type 2 in an SR document."""

DESCRIBING = (
    "IssuerOfPatientID", "PatientBirthTime", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight",
    "AdmissionID", "TimezoneOffsetFromUTC",
)  # fmt: skip
"""Optional in an SR document (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.12.1); free text about the patient is left out."""

_TAKEN = (*PATIENT, *STUDY, *REQUIRED, *DESCRIBING)
_NAMES = tuple(keyword for keyword in _TAKEN if dictionary_VR(keyword) == "PN")
_LAST_GROUP = 0x0038
"""No attribute that is taken stands in a later group of the data set."""

_INFLATE_LIMIT = 1 << 20
"""Bytes inflated of a deflated source: the attributes taken stand at its start, and a bomb stays small."""

_MAX_BYTES = 4 << 20
_MAX_ELEMENTS = 50_000
"""Read of a source up to its last attribute that is taken, at any depth: what is more is a bomb, and stays unread."""

_LARGE_VALUE = 1 << 16
"""A longer value, bytes, is none that a report could carry."""


def read_header(path: Path) -> Dataset:
    """Read the patient and study attributes of a file, whatever follows them; of a damaged one what comes before that.

    Returns
    -------
    pydicom.Dataset
        The attributes in the bytes of the source; empty when the file does not begin like a data set. One that is
        longer than any report could carry counts as absent, and a file that costs too much ends where it does.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    elements: dict[BaseTag, RawDataElement | DataElement] = {}
    implicit, little = True, True
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the values are judged one by one when they are taken
        try:
            syntax = find_data_set(file)
            implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
            source: BinaryIO = file
            if syntax == DeflatedExplicitVRLittleEndian:
                inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                source = BytesIO(inflater.decompress(file.read(_INFLATE_LIMIT), _INFLATE_LIMIT))
            source, _ = frugal(source, max_bytes=_MAX_BYTES, max_elements=_MAX_ELEMENTS)
            for element in data_element_generator(
                source, implicit, little, _is_beyond, _LARGE_VALUE, specific_tags=_tags()
            ):
                if isinstance(element, DataElement) or element.value is not None or not element.length:
                    elements[element.tag] = element
        except Exception as error:  # noqa: BLE001 - pydicom raises anything over hostile bytes; what was read before counts
            log.info("source_header_damaged", file=path.name, error=type(error).__name__, read=len(elements))
        header = Dataset(elements)
        terms = _values(header, "SpecificCharacterSet")
        header.set_original_encoding(implicit, little, character_sets.encodings(terms or [""]))
    return header


def identity(header: Dataset) -> tuple[Dataset, list[str]]:
    """Return what a report takes of its source.

    Returns
    -------
    pydicom.Dataset
        The patient and study attributes, with the Specific Character Set that carries them.
    list of str
        Sentences on what identifies and could not be taken as it is, or was taken though it breaks its rules.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks about single values; each is judged here
        terms = _values(header, "SpecificCharacterSet")
        own = character_sets.normalised(terms)
        encoded = {keyword: _encoded_names(header, keyword, character_sets.encodings(own)) for keyword in _NAMES}
        values = {keyword: [_repaired(keyword, value) for value in _values(header, keyword)] for keyword in _TAKEN}
    bad = [keyword for keyword in _TAKEN if not _is_fit(keyword, values[keyword])]
    remarks = [_remark(keyword) for keyword in bad if keyword in (*PATIENT, *STUDY)]
    kept = {keyword: parts for keyword, parts in values.items() if keyword in PATIENT or keyword not in bad}

    texts = [part for keyword, parts in kept.items() if keyword not in _NAMES for part in parts]
    names = [name for keyword in _NAMES if keyword in kept for name in encoded[keyword]]
    chosen = character_sets.choose(terms, texts, names)
    taken = Dataset()
    if chosen:
        taken.SpecificCharacterSet = list(chosen)
    found = character_sets.encodings(chosen)
    for keyword in _TAKEN:
        parts: list[Any] = list(kept.get(keyword, []))
        if not parts and keyword in DESCRIBING:
            continue
        if parts and keyword in _NAMES and chosen in (own, ()):  # byte for byte, as the source has it
            parts = [PersonName(name, found, validation_mode=config.IGNORE) for name in encoded[keyword]]
        value = "" if not parts else parts[0] if len(parts) == 1 else parts
        taken.add(DataElement(Tag(keyword), dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    return taken, remarks


def time_zone(taken: Dataset) -> timezone | None:
    """Return the offset from UTC in which the source states its times, if it says."""
    offset = str(taken.get("TimezoneOffsetFromUTC", ""))
    if not offset:
        return None
    sign = -1 if offset.startswith("-") else 1
    return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))


def _tags() -> list[BaseTag | int]:
    return [Tag(keyword) for keyword in ("SpecificCharacterSet", *_TAKEN)]


def _is_beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return not 0 < tag.group <= _LAST_GROUP  # group 0 is never in a file: zeros


def _parts(header: Dataset, keyword: str) -> list[Any]:
    """Return the values of an attribute; none when it is absent, empty, no text or cannot be decoded."""
    try:
        value = header.get(keyword)
        several = list(value) if isinstance(value, (MultiValue, list)) else [value]
        return several if any(part is not None and str(part) for part in several) else []
    except Exception:  # noqa: BLE001 - pydicom raises anything over hostile bytes; such a value counts as absent
        return []


def _values(header: Dataset, keyword: str) -> list[str]:
    return ["" if part is None else str(part) for part in _parts(header, keyword)]


def _encoded_names(header: Dataset, keyword: str, own: list[str]) -> list[bytes]:
    """Return names in the very bytes of the source while the header still has them, else as its character set would.

    pydicom writes a name anew when it reads one: empty component groups and closing escape sequences are lost, and the
    report would no longer have the name of its source, byte for byte. To be asked before the value is looked at.
    """
    element = header.get_item(keyword) if keyword in header else None
    names = [PersonName(part).encode(own) for part in _parts(header, keyword)]
    if len(names) == 1 and isinstance(element, RawDataElement) and element.value:
        return [element.value.rstrip(b" \0")]
    return names


def _repaired(keyword: str, value: str) -> str:
    """Return a date or time of ACR-NEMA (`1999.05.24`, `10:20:30`) in the form of today (PS3.5 6.2), else `value`."""
    vr = dictionary_VR(keyword)
    if vr == "DA" and re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", value):
        return value.replace(".", "")
    if vr == "TM" and re.fullmatch(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?", value):
        return value.replace(":", "")
    return value


def _remark(keyword: str) -> str:
    taken = "taken as it is" if keyword in PATIENT else "left empty here"
    return f"The {dictionary_description(keyword)} of the source breaks the rules of its VR (PS3.5 6.2) and is {taken}."


def _is_fit(keyword: str, parts: list[str]) -> bool:
    """Say whether the values of an attribute are allowed where they are to stand."""
    return len(parts) <= 1 and all(_is_allowed(keyword, part) for part in parts)


def _is_allowed(keyword: str, value: str) -> bool:
    controls = "\r\n\t\f" if dictionary_VR(keyword) in {"LT", "ST"} else ""
    if not all(character.isprintable() or character in controls for character in value):
        return False
    try:
        validate_value(dictionary_VR(keyword), value, config.RAISE)
    except ValueError:
        return False
    return keyword not in _RULES or _RULES[keyword](value)


def _is_date(value: str) -> bool:
    try:
        datetime.strptime(value, "%Y%m%d")  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return False
    return len(value) == len("YYYYMMDD")


def _is_number(value: str) -> bool:
    return re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)", value) is not None and 0 < float(value) < 1000


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


_TIME = _matches(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?")
_RULES: dict[str, Callable[[str], bool]] = {
    "PatientBirthDate": _is_date,
    "PatientBirthTime": _TIME,
    "PatientSex": _matches("[MFO]"),
    "StudyDate": _is_date,
    "StudyTime": _TIME,
    "PatientAge": _matches(r"\d{3}[DWMY]"),
    "PatientSize": _is_number,
    "PatientWeight": _is_number,
    "TimezoneOffsetFromUTC": _matches(r"(?!-0000)[+-](0\d|1[0-4])[0-5]\d"),
}
