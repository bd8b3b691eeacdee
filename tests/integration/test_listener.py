"""The listener as its peers see it: contexts, statuses, rejections, and bytes that are kept as they were sent."""

import hashlib
import os
import random
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

from tests.support.listener_process import ListenerProcess
from tests.support.raw_store import (
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
    AssociationRejected,
    ContextRejected,
    RawAssociation,
    command_set,
    element,
    pdv,
    send_raw,
    store_request,
)
from tests.support.spooled import data_set, split, spooled, text
from worker.intake.bell import NAME as BELL
from worker.intake.bell import Bell

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN]), (VERIFICATION, [IMPLICIT_VR_LITTLE_ENDIAN])]


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    """One listener for all tests that leave it as it was."""
    with ListenerProcess(tmp_path_factory.mktemp("listener") / "data") as running:
        yield running


def associate(listener: ListenerProcess, **more: object) -> RawAssociation:
    return RawAssociation(listener.host, listener.port, **{"contexts": CONTEXTS, **more})


def newest(listener: ListenerProcess) -> Path:
    return listener.arrivals()[-1]


def test_what_is_sent_is_what_is_kept(listener: ListenerProcess) -> None:
    data = os.urandom(300_001)
    with associate(listener, calling="MODALITY", called="SOMEBODY") as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3.4", data) == 0x0000
    meta, kept = spooled(newest(listener))
    assert kept == data
    assert text(meta[0x0002]) == CT_IMAGE_STORAGE
    assert text(meta[0x0003]) == "1.2.3.4"
    assert text(meta[0x0010]) == EXPLICIT_VR_LITTLE_ENDIAN
    assert text(meta[0x0016]) == "MODALITY"
    assert text(meta[0x0018]) == "SOMEBODY"
    (line,) = [line for line in listener.events("object_stored") if line["sop_instance_uid"] == "1.2.3.4"]
    assert (line["calling_ae"], line["called_ae"], line["bytes"]) == ("MODALITY", "SOMEBODY", len(data))
    assert line["service"] == "listener"


def test_intake_is_rung_for_when_something_was_stored_and_only_then(listener: ListenerProcess) -> None:
    bell = Bell(listener.data_dir / "run" / BELL)
    try:
        with associate(listener) as association:
            assert association.store(CT_IMAGE_STORAGE, "1.2.3.5", os.urandom(1000)) == 0x0000
            assert select.select([bell], [], [], 30)[0], "nobody rang"
            bell.hush()
            assert association.store(CT_IMAGE_STORAGE, "no UID", os.urandom(1000)) != 0x0000
            assert association.echo(context_id=3) == 0x0000
        assert not select.select([bell], [], [], 0)[0]
    finally:
        bell.close()


@pytest.mark.parametrize("syntax", [str(uid) for uid in ALL_TRANSFER_SYNTAXES if "SMPTE" not in UID(uid).name])
def test_every_transfer_syntax_is_kept_as_sent(listener: ListenerProcess, syntax: str) -> None:
    data = os.urandom(2000)
    status = send_raw(
        listener.host,
        listener.port,
        sop_class=CT_IMAGE_STORAGE,
        sop_instance=f"1.2.{random.getrandbits(64)}",
        transfer_syntax=syntax,
        data=data,
    )
    meta, kept = spooled(newest(listener))
    assert (status, kept, text(meta[0x0010])) == (0, data, syntax)


def test_every_storage_class_is_accepted_and_stored(listener: ListenerProcess) -> None:
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    for start in range(0, len(classes), 128):
        part = classes[start : start + 128]
        with associate(listener, contexts=[(uid, [IMPLICIT_VR_LITTLE_ENDIAN]) for uid in part]) as association:
            for index, uid in enumerate(part):
                assert association.store(uid, f"1.2.9.{start + index}", b"data", context_id=2 * index + 1) == 0x0000


@pytest.mark.parametrize("sop_class", ["1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.9999", "1.2.840.10008.5.1.1.29"])
def test_private_future_and_retired_classes_are_stored(listener: ListenerProcess, sop_class: str) -> None:
    with associate(listener, contexts=[(sop_class, ["1.2.840.113619.5.2"])]) as association:
        assert association.store(sop_class, "1.2.3", b"data") == 0x0000
    assert text(spooled(newest(listener))[0][0x0010]) == "1.2.840.113619.5.2"


def test_contexts_get_the_first_transfer_syntax_that_is_proposed(listener: ListenerProcess) -> None:
    big_endian, jpeg = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.50"
    contexts = [
        (CT_IMAGE_STORAGE, [big_endian, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]),
        (CT_IMAGE_STORAGE, [IMPLICIT_VR_LITTLE_ENDIAN, big_endian]),
        (CT_IMAGE_STORAGE, ["1.2.840.113619.5.2", jpeg]),
        (CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.6.1"]),
        ("1.2.840.10008.5.1.4.31", [IMPLICIT_VR_LITTLE_ENDIAN]),
    ]
    with associate(listener, contexts=contexts) as association:
        results = association.results
        with pytest.raises(ContextRejected):
            association.store(CT_IMAGE_STORAGE, "1.2.3", b"data", context_id=7)
    assert [results[n] for n in (1, 3, 5)] == [(0, big_endian), (0, IMPLICIT_VR_LITTLE_ENDIAN), (0, jpeg)]
    assert results[7][0] == 4
    assert results[9][0] == 3


@pytest.mark.real_scans
def test_real_files_of_every_kind_are_kept_bit_for_bit(listener: ListenerProcess, scans: Path) -> None:
    files = sorted(path for path in (scans / "dicom" / "files").rglob("*") if path.is_file())
    assert len(files) > 100
    before = set(listener.arrivals())
    sent: dict[str, str] = {}
    for number, path in enumerate(files):
        meta, data = split(path.read_bytes())
        syntax = text(meta.get(0x0010, b"")) or IMPLICIT_VR_LITTLE_ENDIAN
        sop_class = text(meta.get(0x0002, b"")) or CT_IMAGE_STORAGE
        if sop_class == "1.2.840.10008.1.3.10":  # a DICOMDIR has no Storage class: sent as if it had
            sop_class = CT_IMAGE_STORAGE
        instance = f"1.2.826.0.1.{number}"
        status = send_raw(
            listener.host,
            listener.port,
            sop_class=sop_class,
            sop_instance=instance,
            transfer_syntax=syntax,
            data=data,
        )
        assert status == 0x0000, path.name
        sent[instance] = hashlib.sha256(data).hexdigest()
    kept = {}
    for path in set(listener.arrivals()) - before:
        meta, data = spooled(path)
        kept[text(meta[0x0003])] = hashlib.sha256(data).hexdigest()
    assert kept == sent


@pytest.mark.parametrize(
    ("sop_class", "sop_instance", "status"),
    [
        (CT_IMAGE_STORAGE, "", 0x0117),
        (CT_IMAGE_STORAGE, "../../etc/passwd", 0x0117),
        (CT_IMAGE_STORAGE, "1.2.3\0\0../x", 0x0117),
        (CT_IMAGE_STORAGE, "1" * 65, 0x0117),
        (CT_IMAGE_STORAGE, "1.2.ä", 0x0117),
        (CT_IMAGE_STORAGE, "9" * 4000, 0x0117),
        (VERIFICATION, "1.2.3", 0x0122),
        ("1.2.840.10008.5.1.4.31", "1.2.3", 0x0122),
        ("", "1.2.3", 0x0122),
    ],
)
def test_bad_requests_have_their_status_and_the_association_lives(
    listener: ListenerProcess, sop_class: str, sop_instance: str, status: int
) -> None:
    before = listener.arrivals()
    with associate(listener) as association:
        assert association.store(sop_class, sop_instance, b"data" * 10_000) == status
        assert listener.arrivals() == before
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data") == 0x0000
    assert listener.partials() == []
    assert listener.events("object_refused")[-1]["fix"]


def test_a_store_on_the_verification_context_and_one_without_data_set(listener: ListenerProcess) -> None:
    with associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", b"data", context_id=3) == 0x0122
        association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.3", data_set_type=0x0101)))
        assert association.status() == 0xC000
        assert association.echo(context_id=3) == 0x0000


def test_a_query_is_not_recognized(listener: ListenerProcess) -> None:
    find = command_set(element(0x0100, b"\x20\0"), element(0x0110, b"\1\0"), element(0x0800, b"\1\0"))
    with associate(listener) as association:
        association.send_pdvs(pdv(1, 3, find))
        association.send_pdvs(pdv(1, 2, b"identifier"))
        assert association.status() == 0x0211


def test_the_response_names_its_request(listener: ListenerProcess) -> None:
    with associate(listener) as association:
        association.send_pdvs(pdv(1, 3, store_request(CT_IMAGE_STORAGE, "1.2.34", message_id=1234)), pdv(1, 2, b"data"))
        response = association.response()
    assert int.from_bytes(response[0x0100], "little") == 0x8001
    assert int.from_bytes(response[0x0120], "little") == 1234
    assert text(response[0x0002]) == CT_IMAGE_STORAGE
    assert text(response[0x1000]) == "1.2.34"
    assert response[0x0800] == b"\1\1"


@pytest.mark.parametrize("room", [1, 2, 1023, 16378, 131066, 200_000])
def test_fragments_of_any_size(listener: ListenerProcess, room: int) -> None:
    data = os.urandom(min(3 * room + 1, 400_001))
    with associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", data, room=room) == 0x0000
    assert data_set(newest(listener)) == data


def test_objects_of_one_association_arrive_in_their_order(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data") as listener:
        with associate(listener) as association:
            for number in range(1000):
                assert association.store(CT_IMAGE_STORAGE, f"1.2.{number}", number.to_bytes(2, "big")) == 0x0000
        arrivals = listener.arrivals()
    assert [int.from_bytes(data_set(path), "big") for path in arrivals] == list(range(1000))


def test_called_ae_titles(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", require_called_ae=True, ae_title="TRIAGE") as listener:
        with pytest.raises(AssociationRejected) as rejected, associate(listener, called="OTHER"):
            pass
        with associate(listener, called="TRIAGE") as association:
            assert association.echo(context_id=3) == 0x0000
        assert listener.stop() == 0
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 7)
    assert "FIRSTREAD_REQUIRE_CALLED_AE" in listener.events("association_rejected")[0]["fix"]


def test_calling_ae_titles(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", calling_aes="CT1,CT2") as listener:
        for calling in ("CT1", "CT2"):
            with associate(listener, calling=calling) as association:
                assert association.echo(context_id=3) == 0x0000
        with pytest.raises(AssociationRejected) as rejected, associate(listener, calling="CT3"):
            pass
        assert listener.stop() == 0
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 3)
    assert "FIRSTREAD_CALLING_AES" in listener.events("association_rejected")[0]["fix"]
    assert listener.events("any_calling_ae_is_served") == []


def test_an_empty_allow_list_is_warned_of(listener: ListenerProcess) -> None:
    assert listener.events("any_calling_ae_is_served")


def test_associations_beyond_the_limit_are_rejected_until_one_ends(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", max_associations=2) as listener:
        with associate(listener), associate(listener) as second:
            with pytest.raises(AssociationRejected) as rejected, associate(listener):
                pass
            assert second.echo(context_id=3) == 0x0000
        with associate(listener) as third:
            assert third.echo(context_id=3) == 0x0000
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 2)


def test_objects_above_the_size_cap(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data", max_object_bytes=100_000) as listener, associate(listener) as association:
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(100_001)) == 0xA700
        assert listener.partials() == []
        assert association.store(CT_IMAGE_STORAGE, "1.2.3", bytes(100_000)) == 0x0000
    assert "FIRSTREAD_MAX_OBJECT_BYTES" in listener.events("object_refused")[0]["fix"]


@pytest.mark.peer("echoscu")
def test_dcmtk_echo(listener: ListenerProcess) -> None:
    subprocess.run(["echoscu", "-aec", "FIRSTREAD", listener.host, str(listener.port)], check=True)


STORESCU = ("storescu", "-R", "-aec", "FIRSTREAD")
DCMSEND = ("dcmsend", "-aec", "FIRSTREAD", "--decompress-never")


@pytest.mark.peer("storescu", "dcmsend")
@pytest.mark.real_scans
@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        (STORESCU, ("LittleEndian", "BigEndian")),
        ((*STORESCU, "-xs"), ("JPEGProcess14SV1",)),
        ((*STORESCU, "-xv"), ("JPEG2000LosslessOnly",)),
        ((*STORESCU, "-xr"), ("RLE",)),
        ((*STORESCU, "-xd"), ("Deflated",)),
        (DCMSEND, ("JPEG2000", "JPEGProcess14", "RLE", "Deflated")),
    ],
)
def test_dcmtk_stores(
    listener: ListenerProcess, scans: Path, tmp_path: Path, command: tuple[str, ...], kinds: tuple[str, ...]
) -> None:
    patterns = [f"*CTImage.dcm_{kind}*" for kind in kinds]
    files = sorted(path for pattern in patterns for path in (scans / "dicom" / "files").glob(pattern))
    sent = {}
    for number, path in enumerate(files):  # they share a SOP Instance UID
        file = pydicom.dcmread(path)
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.2.{number}"
        file.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        sent[str(file.SOPInstanceUID)] = (str(file.file_meta.TransferSyntaxUID), bytes(file.PixelData).rstrip(b"\0"))
    before = set(listener.arrivals())
    done = subprocess.run(
        [*command, listener.host, str(listener.port), "+sd", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = {}
    for path in set(listener.arrivals()) - before:
        file = pydicom.dcmread(path)
        assert file.SOPInstanceUID == file.file_meta.MediaStorageSOPInstanceUID
        assert file.file_meta.ReceivingApplicationEntityTitle == "FIRSTREAD"
        kept[str(file.SOPInstanceUID)] = (str(file.file_meta.TransferSyntaxUID), bytes(file.PixelData).rstrip(b"\0"))
    if "BigEndian" in kinds:  # storescu proposes all uncompressed encodings at once and converts to what is accepted
        assert kept.keys() == sent.keys()
    else:
        assert kept == sent


def test_pynetdicom_stores(listener: ListenerProcess) -> None:
    from pynetdicom import AE

    file = pydicom.Dataset()
    file.SOPClassUID, file.SOPInstanceUID = CT_IMAGE_STORAGE, "1.2.826.0.3.1"
    file.PatientName = "PHANTOM"
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = EXPLICIT_VR_LITTLE_ENDIAN
    ae = AE("PYNET")
    ae.add_requested_context(CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN)
    ae.add_requested_context(VERIFICATION)
    association = ae.associate(listener.host, listener.port)
    assert association.is_established
    assert association.acceptor.implementation_version_name.startswith("FIRSTREAD")
    assert association.acceptor.maximum_length == 131072
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(file).Status == 0x0000
    association.release()
    assert association.is_released
    assert pydicom.dcmread(newest(listener)).PatientName == "PHANTOM"
    assert "PHANTOM" not in listener.log.read_text()
