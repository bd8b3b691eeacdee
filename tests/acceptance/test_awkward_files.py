"""Every awkward real file, through the whole of firstread: each ends with a state and a reason a person understands."""

import contextlib
import subprocess
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, generate_uid

from tests.conftest import RedisServer
from tests.support.raw_store import AssociationAborted, ContextRejected, send_raw
from tests.support.stack import Stack

pytestmark = [pytest.mark.real_scans, pytest.mark.peer("dcmsend")]


def raw_parts(file: Path) -> tuple[str, str, bytes]:
    """SOP class, transfer syntax and data set bytes of a file, guessed where it does not say."""
    data = file.read_bytes()
    try:
        meta = pydicom.filereader.read_file_meta_info(file)
        start = 144 + meta.FileMetaInformationGroupLength
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID), data[start:]
    except Exception:  # noqa: BLE001 - whatever it is, it is sent as it stands
        return CTImageStorage, ImplicitVRLittleEndian, data[132:] if data[128:132] == b"DICM" else data


def push_with_dcmsend(stack: Stack, folder: Path, report: Path) -> None:
    """Push a folder in one association; what dcmsend cannot send it leaves out."""
    command = ["dcmsend", "127.0.0.1", str(stack.port), "-aec", "FIRSTREAD", "-aet", "DCMSEND", "+sd", "--no-halt",
               "--no-uid-checks", "--create-report-file", str(report), str(folder)]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=180, check=False)


def push_raw(stack: Stack, files: list[Path]) -> Counter[str]:
    """Push each file as bare bytes under a UID of our own; the statuses that came back."""
    answers: Counter[str] = Counter()
    for file in files:
        sop_class, syntax, data = raw_parts(file)
        try:
            status = send_raw(
                "127.0.0.1", stack.port, sop_class=sop_class, sop_instance=generate_uid(prefix=None),
                transfer_syntax=syntax, data=data, calling="RAW",
            )  # fmt: skip
            answers[f"0x{status:04X}"] += 1
        except ContextRejected:
            answers["context rejected"] += 1  # no storage SOP class: the file says it is something else
        except AssociationAborted:
            answers["aborted"] += 1
    return answers


@pytest.mark.filterwarnings("ignore")  # pydicom's remarks about the files, as this test takes them apart
def test_every_awkward_file_ends_in_a_state_that_a_person_understands(
    scans: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    files = sorted((scans / "dicom" / "files").iterdir())
    with Stack(tmp_path / "data", redis_server.url, decode_seconds=20) as stack:
        stack.start()
        push_with_dcmsend(stack, scans / "dicom" / "files", tmp_path / "report.txt")
        by_pynetdicom = stack.run("send", str(scans / "dicom" / "files"), "--to", f"FIRSTREAD@127.0.0.1:{stack.port}",
                                  "--calling", "PYNETDICOM", "--json", timeout=180)  # fmt: skip
        assert by_pynetdicom.returncode == 1, "some of these files are no DICOM"
        answers = push_raw(stack, files)
        assert answers["aborted"] == 0
        assert answers["0x0000"] > 140, answers
        stack.wait(lambda: stack.sums()["pending"] == 0, 180, "everything to be settled")
        done = stack.run("reconcile", "--verify", "--json")
        assert done.returncode == 0, done.stdout
        assert set(stack.alive().values()) == {True}

        sums = stack.json("reconcile")
        assert sums["accepted"] >= answers["0x0000"]
        assert min(sums["complete"], sums["failed"], sums["not_eligible"]) > 0, sums
        for study in stack.studies():
            assert study["ai_status"] in {"complete", "failed", "not_eligible"}
            if study["ai_status"] != "complete":
                assert len(study["reason"]) > 20, study
                assert "Traceback" not in study["reason"]
                assert "\n" not in study["reason"]
        names = {str(n) for n in patient_names(files) if len(str(n)) > 5}
        for service in stack.processes:
            log = stack.log(service)
            assert not [name for name in names if name in log], f"{service} wrote a patient's name"
            assert "Traceback" not in log, log[log.find("Traceback") - 500 :][:3000]


def patient_names(files: list[Path]) -> set[str]:
    """The names in the files, where there are any."""
    names = set()
    for file in files:
        with contextlib.suppress(Exception):  # no DICOM, no name
            names.add(str(pydicom.dcmread(file, stop_before_pixels=True, force=True).get("PatientName", "")))
    return names
