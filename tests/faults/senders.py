"""Senders: killed in the middle, two at once, again, changed, late."""

import socket
import struct
import threading

from pydicom.uid import generate_uid

from tests.faults.scans import Scan, films, scan, study
from tests.faults.trial import BOTH, Scenario, Trial
from tests.support.raw_store import EXPLICIT_VR_LITTLE_ENDIAN, RawAssociation, pdv, store_request

FAMILY = "senders"


def killed_in_a_transfer(trial: Trial) -> None:
    """Three senders end in the middle of an object, two of them with a reset; then the object is sent whole."""
    one = scan(rows=20_000)
    for reset in (True, False, True):
        _half(trial.site.stack.port, one, reset=reset)
        trial.struck()
    trial.wait(lambda: not list((trial.site.spool_dir / "incoming").glob("*.part")), 60, "the partial files to go")
    if trial.site.arrivals():
        trial.complaints.append("half an object lies among the arrivals")
    trial.fault_is_over()
    trial.push([one])


def _half(port: int, one: Scan, *, reset: bool) -> None:
    """Send half an object, then end as a killed process does: its kernel closes or resets the connection."""
    association = RawAssociation("127.0.0.1", port, [(one.sop_class_uid, [EXPLICIT_VR_LITTLE_ENDIAN])])
    association.negotiate()
    association.send_pdvs(pdv(1, 3, store_request(one.sop_class_uid, one.sop_instance_uid)))
    for start in range(0, len(one.data) // 2, 16000):
        association.send_pdvs(pdv(1, 0, one.data[start : start + 16000]))
    if reset:
        association.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    association.socket.close()


def two_at_once(trial: Trial) -> None:
    """The same study of four from two senders at the same time, and a single film of another too."""
    scans = [*study(4), *films(1)]
    trial.generations[scans[0].study_instance_uid] = None
    senders = [trial.modality(name) for name in ("CT1", "CT2")]
    threads = [threading.Thread(target=sender.push_until_accepted, args=(scans, 120)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trial.struck()
    trial.fault_is_over()


def resent_identical(trial: Trial) -> None:
    """What has its report comes again, twice, byte for byte; so does what is not even registered yet."""
    scans = films(2)
    trial.push(scans)
    trial.settle()
    for _ in range(2):
        trial.push(scans)
        trial.struck()
    fresh = films(1)
    trial.push([*fresh, *fresh])
    trial.fault_is_over()


def resent_altered(trial: Trial) -> None:
    """The same SOP Instance UID comes with other bytes: kept, failed, shown; the first stays what it was."""
    uid, of_study = generate_uid(prefix=None), generate_uid(prefix=None)
    first, other = (
        scan(SOPInstanceUID=uid, StudyInstanceUID=of_study, StudyDescription=words)
        for words in ("Chest PA", "Chest AP")
    )
    trial.push([first])
    trial.settle()
    trial.push([other])
    trial.struck()
    trial.statuses[uid, other.digest] = "failed"
    trial.generations[of_study] = 2
    trial.fault_is_over()


def late_slices(trial: Trial) -> None:
    """Twice something more of a study comes after its report: each makes one generation more."""
    scans = study(3)
    of_study = scans[0].study_instance_uid
    for number, late in enumerate(scans, 1):
        trial.generations[of_study] = number
        trial.push([late])
        trial.struck()
        trial.fault_is_over()
        trial.settle()


def scenarios() -> list[Scenario]:
    return [
        Scenario("sender killed in the middle of a transfer", FAMILY, killed_in_a_transfer, BOTH),
        Scenario("the same study from two senders at once", FAMILY, two_at_once, BOTH),
        Scenario("resent, identical", FAMILY, resent_identical, BOTH),
        Scenario("resent, altered", FAMILY, resent_altered, BOTH),
        Scenario("late slices after the report", FAMILY, late_slices, BOTH),
    ]
