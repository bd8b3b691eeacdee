"""Messages of storage commitment are read as they are encoded, within bounds, and nothing else comes of bad ones."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests.support.commitment import CT, EXPLICIT, IMPLICIT, encoded, information, item
from worker.commitment.message import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_REFERENCES,
    TRANSFER_SYNTAXES,
    Kind,
    Message,
    Reference,
    decode,
    reason_words,
)
from worker.errors import UnreadableMessage


def read(kind: Kind, data: bytes, syntax: str = EXPLICIT) -> Message:
    return decode(kind, data, syntax, calling_ae="MODALITY", called_ae="FIRSTREAD")


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_a_message_is_read_however_it_is_encoded(syntax: str, undefined: bool) -> None:
    data_set = information([item("1.2.3"), item("1.2.4")], [item("1.2.5", reason=0x0112)], "2.25.7")
    data_set.RetrieveAETitle = "PACS"
    data_set.StudyComments = "x" * 101
    nested = item("9.9")
    nested.ReferencedSeriesSequence = [item("9.8")]
    data_set.ReferencedStudySequence = [nested]
    data = encoded(data_set, syntax, undefined=undefined)
    result = read("result", data, syntax)
    wanted = (Reference(CT, "1.2.5", 0x0112), Reference(CT, "1.2.3"), Reference(CT, "1.2.4"))
    assert sorted(result.references, key=str) == sorted(wanted, key=str)
    assert (result.transaction_uid, result.calling_ae, result.called_ae) == ("2.25.7", "MODALITY", "FIRSTREAD")
    request = read("request", data, syntax)
    assert [one.sop_instance_uid for one in request.references] == ["1.2.3", "1.2.4"]
    assert Message.from_json(result.to_json()) == result


def test_a_reference_that_comes_twice_is_one() -> None:
    assert len(read("request", encoded(information([item("1.2.3"), item("1.2.3")]))).references) == 1


def test_a_failure_without_a_reason_is_still_one() -> None:
    (reference,) = read("result", encoded(information(failed=[item("1.2.3")]))).references
    assert reference.failure_reason == 0x0110


GOOD_REQUEST = encoded(information([item("1.2.3")], transaction_uid="2.25.7"))
DEEPER = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
BAD = {
    "nothing": b"",
    "a transaction that is no UID": GOOD_REQUEST.replace(b"2.25.7", b"SMITH^"),
    "no transaction": GOOD_REQUEST[14:],
    "no references": GOOD_REQUEST[:14],
    "a reference without a class": GOOD_REQUEST.replace(b"\x08\0\x50\x11", b"\x08\0\x51\x11"),
    "an instance that is no UID": GOOD_REQUEST.replace(b"1.2.3\0", b"../../"),
    "cut short": GOOD_REQUEST[:-3],
    "a VR that is none": GOOD_REQUEST.replace(b"UI", b"\0\1", 1),
    "too deep": GOOD_REQUEST[:14] + DEEPER * 50_000,
    "other bytes": bytes(range(256)) * 4,
}


def test_the_good_one_is_good() -> None:
    assert read("request", GOOD_REQUEST).references == (Reference(CT, "1.2.3"),)


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_no_message_is_refused(name: str) -> None:
    with pytest.raises(UnreadableMessage):
        read("request", BAD[name])


def test_bounds() -> None:
    with pytest.raises(UnreadableMessage, match="not read"):
        read("request", bytes(MAX_BYTES + 1))
    with pytest.raises(UnreadableMessage, match="not read"):
        read("request", encoded(information([item("1.2.3")])), "1.2.840.10008.1.2.1.99")
    one = encoded(information([item("1.2.30000")]), IMPLICIT)
    head, reference = one[:-60], one[-60:]
    assert reference.startswith(b"\xfe\xff\x00\xe0")
    many = b"".join(reference.replace(b"1.2.30000", b"1.2.%05d" % number) for number in range(MAX_REFERENCES + 1))
    whole = head[:-4] + struct.pack("<L", len(many)) + many
    with pytest.raises(UnreadableMessage, match=f"more than {MAX_REFERENCES}"):
        read("request", whole, IMPLICIT)
    fewer = many[: MAX_REFERENCES * 60]
    assert (
        len(read("request", head[:-4] + struct.pack("<L", len(fewer)) + fewer, IMPLICIT).references) == MAX_REFERENCES
    )
    nested = item("1.2.3")
    for _ in range(MAX_DEPTH + 1):
        outer = Dataset()
        outer.ReferencedStudySequence = [nested]
        nested = outer
    nested.TransactionUID = "1.2"
    with pytest.raises(UnreadableMessage, match="nested deeper"):
        read("request", encoded_without_lengths(nested))


def encoded_without_lengths(data_set: Dataset) -> bytes:
    inner: Dataset = data_set
    while "ReferencedStudySequence" in inner:
        inner["ReferencedStudySequence"].is_undefined_length = True
        inner = inner.ReferencedStudySequence[0]
        inner.is_undefined_length_sequence_item = True
    return encoded(data_set)


GOOD = [
    encoded(information([item("1.2.3")], [item("1.2.4", reason=1)]), syntax, undefined=undefined)
    for syntax in TRANSFER_SYNTAXES
    for undefined in (False, True)
]
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GOOD), st.sampled_from(TRANSFER_SYNTAXES), CHANGES, st.integers(0, 60))
def test_mutations_come_to_a_message_or_a_refusal(
    data: bytes, syntax: str, changes: list[tuple[int, int]], cut: int
) -> None:
    mutated = bytearray(data)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    try:
        message = read("result", bytes(mutated[: len(mutated) - cut]), syntax)
    except UnreadableMessage:
        return
    assert Message.from_json(message.to_json()) == message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=500), st.sampled_from(TRANSFER_SYNTAXES))
def test_any_bytes_come_to_a_refusal(data: bytes, syntax: str) -> None:
    with pytest.raises(UnreadableMessage):
        read("request", data, syntax)


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"[]",
        b"{}",
        b'{"references": 1}',
        b'{"references": [[1]], "kind": "request"}',
        b'{"references": [["1.2", "../x"]], "kind": "request", "transaction_uid": "1.2"}',
        b'{"references": [["1.2", "1.3"]], "kind": "other", "transaction_uid": "1.2"}',
    ],
)
def test_a_damaged_file_is_a_value_error(kept: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and ours
        Message.from_json(kept)


def test_reasons_in_words() -> None:
    assert reason_words(0x0112) == "0x0112 (no such object instance)"
    assert "not a failure reason" in reason_words(1)
