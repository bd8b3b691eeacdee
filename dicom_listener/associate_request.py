"""A first look at an A-ASSOCIATE-RQ: whether it is worth decoding (PS3.8 9.3.2).

The decoder behind makes an object of each item: a request made of a hundred thousand tiny ones would keep a processor
busy for seconds. And what it says of a request that it cannot decode quotes the peer; what is said here does not.
"""

import struct
from collections.abc import Iterator

from worker.errors import ProtocolError

ITEMS_CAP = 8192
"""Items and sub-items; 128 presentation contexts with every transfer syntax of the Standard have some 6,000."""

_FIXED = 68
_ITEM = struct.Struct(">BBH")
_CONTEXT, _ABSTRACT_SYNTAX = 0x20, 0x30
_NESTING = {_CONTEXT: 4, 0x50: 0}
"""Presentation context and user information: at which byte their sub-items begin."""
_UIDS = frozenset({0x10, 0x30, 0x40, 0x52})
"""Application context, abstract syntax, transfer syntax and implementation class."""


def check_associate_request(body: memoryview) -> None:
    """Look through the variable field of an A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolError
        It is cut short, its items do not fit into each other, there are too many, or an AE title or UID is none.
    """
    if len(body) < _FIXED:
        raise ProtocolError(f"an A-ASSOCIATE-RQ of {len(body)} bytes is too short")
    for name, title in (("called", body[4:20]), ("calling", body[20:36])):
        text = bytes(title)
        if not text.strip() or b"\\" in text or not all(0x20 <= byte < 0x7F for byte in text):
            raise ProtocolError(f"the {name} AE title is blank, or not of the characters that VR AE allows (PS3.5 6.2)")
    count = 0
    for kind, value in _items(body[_FIXED:]):
        count += 1
        if kind in _NESTING:
            inner = [sub for sub, _ in _items(value[_NESTING[kind] :])]
            count += len(inner)
            if kind == _CONTEXT and _ABSTRACT_SYNTAX not in inner:  # an empty one is rejected, with its context alone
                raise ProtocolError("a presentation context is proposed without an abstract syntax")
        if count > ITEMS_CAP:
            raise ProtocolError(f"an A-ASSOCIATE-RQ has more than {ITEMS_CAP} items")


def _items(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    while view:
        if len(view) < _ITEM.size:
            raise ProtocolError("an A-ASSOCIATE-RQ ends inside the head of an item")
        kind, _, length = _ITEM.unpack_from(view)
        end = _ITEM.size + length
        if end > len(view):
            raise ProtocolError(f"item {kind:#04x} of {length} bytes does not fit into its A-ASSOCIATE-RQ")
        if kind in _UIDS and length > 65:  # padding to an even length is wrong here, and common
            raise ProtocolError(f"item {kind:#04x} holds a UID of {length} bytes")
        yield kind, view[_ITEM.size : end]
        view = view[end:]
