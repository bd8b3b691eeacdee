"""Parts of a report as the bytes they are in the file (Explicit VR Little Endian): made once, filled in many times.

Most of a report is the same from study to study. What highdicom and pydicom make of it is encoded once and kept as
bytes, with places for what differs; bytes cannot be changed by whoever gets them, as a shared `Dataset` could be.
pydicom writes an element that it is given as bytes as it is, and decodes it when somebody asks for its value.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import DS

CONTENT_SEQUENCE = Tag("ContentSequence")

Frozen = dict[BaseTag, DataElement | RawDataElement]
"""Elements as bytes, to be given to `Dataset.update`."""

Values = Mapping[str, Any]
"""What goes into the places of a form, by their names; the default character repertoire carries every text."""

_ITEM = b"\xfe\xff\x00\xe0"
_LONG_FORM = frozenset({"SQ", "UT"})
"""VRs, of those here, whose length takes four bytes (PS3.5 7.1.2)."""


def _padded(value: str, padding: bytes) -> bytes:
    encoded_value = value.encode("ascii")
    return encoded_value + padding if len(encoded_value) % 2 else encoded_value


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "DS": lambda value: _padded(str(DS(value, auto_format=True)), b" "),
    "DT": lambda value: _padded(value, b" "),
    "FD": lambda value: struct.pack("<d", value),
    "UI": lambda value: _padded(value, b"\0"),
    "UT": lambda value: _padded(value, b" "),
}
"""How the value of a place is written, by its VR."""


def element(keyword: str, value: Any) -> bytes:
    """Return an element: of a sequence `value` is its items, encoded."""
    return _element(*_identified(keyword), value)


@cache
def _identified(keyword: str) -> tuple[int, str]:
    return Tag(keyword), dictionary_VR(keyword)


def _element(tag: int, vr: str, value: Any) -> bytes:
    written = value if vr == "SQ" else _ENCODERS[vr](value)
    form = "<HH2s2xL" if vr in _LONG_FORM else "<HH2sH"
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr.encode(), len(written)) + written


def items(contents: Iterable[bytes]) -> bytes:
    """Return items of a sequence, each from the elements in it."""
    return b"".join(part for content in contents for part in (_ITEM, struct.pack("<L", len(content)), content))


def sequence(keyword: str, contents: Iterable[bytes]) -> Frozen:
    """Return a sequence from the elements in each of its items."""
    tag, value = Tag(keyword), items(contents)
    return {tag: RawDataElement(tag, "SQ", len(value), value, 0, False, True)}


def encoded(dataset: Dataset) -> bytes:
    """Return what pydicom writes for a data set whose text is in the default character repertoire."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def frozen(dataset: Dataset) -> Frozen:
    """Return the elements of a data set as bytes."""
    found = data_element_generator(BytesIO(encoded(dataset)), False, True)
    return {one.tag: one for one in found if isinstance(one, RawDataElement)}


@dataclass(frozen=True)
class _Place:
    tag: int
    vr: str
    name: str


@dataclass(frozen=True)
class _Sequence:
    """A sequence with a place in one of its items."""

    tag: int
    contents: tuple["tuple[_Part, ...]", ...]


_Part = bytes | _Place | _Sequence


class Form:
    """A data set that was made once, with places for what differs.

    Parameters
    ----------
    made
        The data set with a stand-in where a place is to be.
    stand_ins
        Name of a place → its stand-in; every element that has one as its value, at any depth, is that place. Where it
        is a `UID` only a UID counts, where it is a number only a number.
    """

    def __init__(self, made: Dataset, stand_ins: Values) -> None:
        self._parts = _split(made, stand_ins)
        self.names = frozenset(_names(self._parts))
        """The places that there are."""

    def filled(self, values: Values) -> bytes:
        """Return the encoded elements, with a value in each place."""
        return _filled(self._parts, values)


class Container:
    """A content item that has others in it, made once.

    Parameters
    ----------
    made, stand_ins
        As of a `Form`: the places are in the items of its Content Sequence.
    """

    def __init__(self, made: Dataset, stand_ins: Values) -> None:
        self._head = encoded(made[:CONTENT_SEQUENCE])  # nothing of a content item has a later tag
        self._forms = [Form(item, stand_ins) for item in made.ContentSequence]

    def filled(self, values: Values, rows: Iterable[Values] = ()) -> bytes:
        """Return the encoded elements; an item whose places are not among `values` stands there once for each row."""
        rows = tuple(rows)
        contents = []
        for form in self._forms:
            given = (values,) if form.names <= values.keys() else rows
            contents += [form.filled(one) for one in given]
        return self.around(contents)

    def around(self, contents: Iterable[bytes]) -> bytes:
        """Return the encoded elements, with these items in place of its own."""
        return self._head + element("ContentSequence", items(contents))


def _split(dataset: Dataset, stand_ins: Values) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    for one in dataset:
        if (place := _place(one, stand_ins)) is not None:
            parts.append(place)
            continue
        alone = Dataset()
        alone.add(one)
        parts.append(encoded(alone))
    return tuple(parts)


def _place(one: DataElement, stand_ins: Values) -> _Part | None:
    """Return the place that an element is, or has in it; None where it is always the same."""
    if one.VR == "SQ":
        contents = tuple(_split(item, stand_ins) for item in one.value)
        return _Sequence(one.tag, contents) if any(True for content in contents for _ in _names(content)) else None
    for name, stand_in in stand_ins.items():
        if isinstance(one.value, type(stand_in)) and one.value == stand_in:
            return _Place(one.tag, one.VR, name)
    return None


def _names(parts: Iterable[_Part]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, _Place):
            yield part.name
        elif isinstance(part, _Sequence):
            for content in part.contents:
                yield from _names(content)


def _filled(parts: Iterable[_Part], values: Values) -> bytes:
    written = []
    for part in parts:
        if isinstance(part, bytes):
            written.append(part)
        elif isinstance(part, _Place):
            written.append(_element(part.tag, part.vr, values[part.name]))
        else:
            contents = items(_filled(content, values) for content in part.contents)
            written.append(_element(part.tag, "SQ", contents))
    return b"".join(written)
