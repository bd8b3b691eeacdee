"""What an A-ASSOCIATE-RQ must be before it is decoded, and that saying so never quotes it."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import ALL_TRANSFER_SYNTAXES

from dicom_listener.associate_request import ITEMS_CAP, check_associate_request
from dicom_listener.transport import REQUEST_CAP
from tests.support.raw_store import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, associate_request, item
from worker.errors import ProtocolError

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]
FIXED = struct.pack(">HH16s16s32x", 1, 0, b"FIRSTREAD".ljust(16), b"TEST".ljust(16))


def body(**changes: object) -> bytes:
    return associate_request(**{"contexts": CONTEXTS, **changes})[6:]  # type: ignore[arg-type]


def refused(content: bytes) -> str:
    with pytest.raises(ProtocolError) as error:
        check_associate_request(memoryview(content))
    return str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        body(),
        body(calling="A", called="B" * 16),
        body(contexts=[]),
        body(contexts=[("1.2.3\0", ["1.2.840.10008.1.2\0"])]),
        body(contexts=[(CT_IMAGE_STORAGE, [str(uid) for uid in ALL_TRANSFER_SYNTAXES])] * 128),
        body(more=item(0x58, b"\2\1\0\4user\0\4pass") + item(0x7F, b"\0\xff" * 100)),
        FIXED + item(0x10, b"1.2.840.10008.3.1.1.1") + item(0xEE, b"nobody knows"),
    ],
)
def test_what_is_sent_in_earnest_passes(content: bytes) -> None:
    assert len(content) < REQUEST_CAP
    check_associate_request(memoryview(content))


@pytest.mark.parametrize("size", [0, 1, 67])
def test_too_short(size: int) -> None:
    assert "too short" in refused(FIXED[:size])


@pytest.mark.parametrize("title", ["", " " * 16, "A\nB", "A\x1b[2J", "A\\B", "\0" * 16, "Ä", "A\x7f"])
@pytest.mark.parametrize("which", ["calling", "called"])
def test_titles_that_are_none(which: str, title: str) -> None:
    said = refused(body(**{which: title}))
    assert which in said
    assert said.isprintable()


@pytest.mark.parametrize("cut", [1, 3, 10, 60])
def test_cut_short(cut: int) -> None:
    assert "A-ASSOCIATE-RQ" in refused(body()[:-cut])


def test_a_length_that_leaves_its_item() -> None:
    inner = struct.pack(">BBH", 0x30, 0, 4000) + b"1.2"
    assert "does not fit" in refused(FIXED + item(0x20, b"\1\0\0\0" + inner) + bytes(5000))


@pytest.mark.parametrize("kind", [0x30, 0x40])
def test_a_uid_that_is_too_long(kind: int) -> None:
    said = refused(FIXED + item(0x20, b"\1\0\0\0" + item(kind, b"DOE^JANE" * 9)))
    assert "72 bytes" in said
    assert "DOE" not in said


@pytest.mark.parametrize("inner", [b"", item(0x40, b"1.2")])
def test_a_context_without_an_abstract_syntax(inner: bytes) -> None:
    assert "abstract syntax" in refused(FIXED + item(0x20, b"\1\0\0\0" + inner))


@pytest.mark.parametrize("uid", [b"", b"\0", b" "])
def test_an_empty_abstract_syntax_costs_its_own_context_and_not_the_association(uid: bytes) -> None:
    """Senders make contexts of what stands in their files; the objects beside it are good."""
    check_associate_request(memoryview(FIXED + item(0x20, b"\1\0\0\0" + item(0x30, uid) + item(0x40, b"1.2"))))


@pytest.mark.parametrize("nested", [False, True])
def test_too_many_items(nested: bool) -> None:
    tiny = item(0x54, b"\0\0") * (ITEMS_CAP + 1)
    content = FIXED + (item(0x50, tiny[:65_000]) * 2 if nested else tiny)
    began = time.process_time()
    assert str(ITEMS_CAP) in refused(content)
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=400), st.integers(0, 400))
def test_whatever_comes_it_ends_in_a_verdict_that_quotes_nothing(garbage: bytes, at: int) -> None:
    content = bytearray(body(calling="DOE^JANE"))
    content[at : at + len(garbage)] = garbage
    said = ""
    try:
        check_associate_request(memoryview(content))
    except ProtocolError as error:
        said = str(error)
    assert "DOE" not in said
    assert said.isprintable()
