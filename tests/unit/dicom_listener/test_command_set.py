"""Command sets, against pynetdicom's encoder and decoder and against damage."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import dimse_messages
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu import P_DATA_TF

from dicom_listener.command_set import C_ECHO_RQ, C_STORE_RQ, Command, encode_response, p_data
from tests.support.raw_store import command_set, element, store_request
from worker.errors import ProtocolError


def encoded_by_pynetdicom(primitive: C_STORE | C_ECHO, message: dimse_messages.DIMSEMessage) -> bytes:
    message.primitive_to_message(primitive)
    return b"".join(data[1:] for p in message.encode_msg(1, 0) for _, data in p.presentation_data_value_list[:1])


def test_a_store_request_of_pynetdicom_is_read() -> None:
    primitive = C_STORE()
    primitive.MessageID = 4711
    primitive.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    primitive.AffectedSOPInstanceUID = "1.2.3.45"
    primitive.Priority = 1
    primitive.DataSet = BytesIO(b"")
    encoded = encoded_by_pynetdicom(primitive, dimse_messages.C_STORE_RQ())
    assert Command.parse(encoded) == Command(C_STORE_RQ, 4711, True, "1.2.840.10008.5.1.4.1.1.2", "1.2.3.45")


def test_an_echo_request_of_pynetdicom_is_read() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 9
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    command = Command.parse(encoded_by_pynetdicom(primitive, dimse_messages.C_ECHO_RQ()))
    assert command == Command(C_ECHO_RQ, 9, False, "1.2.840.10008.1.1", "")


def test_the_response_is_what_pynetdicom_reads() -> None:
    command = Command(C_STORE_RQ, 77, True, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    encoded = encode_response(command, 0xA700, "storage is full", echo_instance=True)
    response = decode(BytesIO(encoded), True, True)
    assert response.CommandGroupLength == len(encoded) - 12
    assert response.CommandField == 0x8001
    assert response.MessageIDBeingRespondedTo == 77
    assert response.CommandDataSetType == 0x0101
    assert response.Status == 0xA700
    assert response.ErrorComment == "storage is full"
    assert response.AffectedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert response.AffectedSOPInstanceUID == "1.2.3"


def test_a_response_repeats_no_instance_uid_unless_asked_and_no_class_uid_that_is_none() -> None:
    command = Command(C_STORE_RQ, 1, True, "é" * 70, "../../x")
    response = decode(BytesIO(encode_response(command, 0x0117)), True, True)
    assert "AffectedSOPInstanceUID" not in response
    assert "AffectedSOPClassUID" not in response


def test_an_error_comment_is_cut_at_what_its_vr_allows() -> None:
    command = Command(C_ECHO_RQ, 1, False, "", "")
    assert len(decode(BytesIO(encode_response(command, 1, "x" * 100)), True, True).ErrorComment) == 64


@pytest.mark.parametrize("max_length", [0, 7, 20, 128, 16384])
def test_p_data_keeps_the_peers_maximum_length(max_length: int) -> None:
    encoded = encode_response(Command(C_STORE_RQ, 1, True, "1.2", "1.3"), 0, echo_instance=True)
    stream = p_data(5, encoded, max_length)
    collected, position, last = b"", 0, False
    while position < len(stream):
        length = int.from_bytes(stream[position + 2 : position + 6], "big")
        assert not max_length or length <= max_length
        assert not last, "a fragment follows the last one"
        pdu = P_DATA_TF()
        pdu.decode(stream[position : position + 6 + length])
        (value,) = pdu.presentation_data_value_items
        assert value.presentation_context_id == 5
        control = value.presentation_data_value[0]
        assert control & 1
        last = bool(control & 2)
        collected += value.presentation_data_value[1:]
        position += 6 + length
    assert last
    assert collected == encoded


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        (b"\0\0\0", "ends inside"),
        (element(0x0100, b"\1\0")[:-1], "damaged"),
        (b"\x08\x00" + element(0x0100, b"\1\0")[2:], "damaged"),
        (command_set(element(0x0110, b"\1\0"), element(0x0800, b"\1\1")), "Command Field"),
        (command_set(element(0x0100, b"\1\0"), element(0x0110, b"\1\0")), "Command Data Set Type"),
        (command_set(element(0x0100, b"\1\0\0\0"), element(0x0800, b"\1\1")), "Command Field"),
    ],
)
def test_damage_is_a_protocol_error(encoded: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        Command.parse(encoded)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(encoded: bytes) -> None:
    try:
        Command.parse(encoded)
    except ProtocolError:
        return


@given(st.integers(0, 250), st.binary(min_size=1, max_size=4))
def test_a_request_with_damage_is_read_or_refused(position: int, damage: bytes) -> None:
    encoded = bytearray(store_request("1.2.840.10008.5.1.4.1.1.2", "1.2.3"))
    encoded[position : position + len(damage)] = damage
    try:
        Command.parse(bytes(encoded))
    except ProtocolError:
        return
