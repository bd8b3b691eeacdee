"""Disks: full before an object and in the middle of one, read-only, full beneath the database and the reports."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.scans import Scan, films, scan
from tests.faults.site import FLOOR_MIB
from tests.faults.trial import BOTH, NotHere, Scenario, Trial

FAMILY = "disk"
OUT_OF_RESOURCES = range(0xA700, 0xA800)
MIB = 1 << 20


def _needs_mounts(trial: Trial) -> None:
    if not trial.site.can_fill_disks:
        raise NotHere("no file system of its own could be mounted (it takes root)")


@contextmanager
def _filled(folder: Path, leave: int) -> Iterator[None]:
    """Fill a file system but for so many bytes."""
    ballast = folder / "ballast"
    try:
        with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):  # ENOSPC: what was wanted
            while (free := shutil.disk_usage(folder).free - leave) > 0:
                file.write(b"\0" * min(free, MIB))
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _expect_refusal(trial: Trial, scans: list[Scan]) -> None:
    """Every one is answered A7xx, and nothing of it stays."""
    modality = trial.modality()
    modality.push(scans)
    statuses = [answer.status for answer in modality.log]
    if not statuses or any(status not in OUT_OF_RESOURCES for status in statuses):
        shown = ["none" if status is None else f"{status:04X}" for status in statuses]
        trial.complaints.append(f"answers {shown} where A7xx was due")
    if partials := list((trial.site.spool_dir / "incoming").glob("*.part")):
        trial.complaints.append(f"{len(partials)} partial files were left")
    trial.struck()


def spool_full(trial: Trial) -> None:
    """Below the free-space floor nothing is accepted; what was accepted before goes on."""
    _needs_mounts(trial)
    scans = films(3)
    trial.push(films(2))
    with _filled(trial.site.spool_dir, FLOOR_MIB * MIB // 2):
        _expect_refusal(trial, scans)
    trial.fault_is_over()
    trial.push(scans)


def spool_full_in_an_object(trial: Trial) -> None:
    """The space ends in the middle of one object."""
    _needs_mounts(trial)
    large = scan(rows=(FLOOR_MIB + 3) * MIB // 96)
    with _filled(trial.site.spool_dir, FLOOR_MIB * MIB + MIB):
        _expect_refusal(trial, [large])
    trial.fault_is_over()
    trial.push([large])


def spool_read_only(trial: Trial) -> None:
    """The spool cannot be written for a while, with work owed for what lies in it."""
    _needs_mounts(trial)
    scans = films(2)
    trial.push(films(2))
    _remount(trial.site.spool_dir, "ro")
    try:
        _expect_refusal(trial, scans)
        time.sleep(1.0)
    finally:
        _remount(trial.site.spool_dir, "rw")
    trial.fault_is_over()
    trial.push(scans)


def _remount(folder: Path, how: str) -> None:
    """Remount; a file that is just being written makes that wait."""
    for _ in range(100):
        if (
            subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], capture_output=True, check=False).returncode
            == 0
        ):
            return
        time.sleep(0.05)
    raise NotHere(f"a file system cannot be remounted {how} here")


def data_disk_full(trial: Trial) -> None:
    """No byte is left for SQLite, previews and reports, while scans are accepted into a spool of their own."""
    _needs_mounts(trial)
    trial.push(films(2))
    with _filled(trial.site.data_dir, 0):
        trial.struck()
        trial.push(films(3))
        time.sleep(8.0)
    trial.fault_is_over()


def scenarios() -> list[Scenario]:
    return [
        Scenario("spool below its floor", FAMILY, spool_full, BOTH),
        Scenario("spool full in the middle of an object", FAMILY, spool_full_in_an_object, BOTH),
        Scenario("spool read-only", FAMILY, spool_read_only, BOTH),
        Scenario("data disk full beneath database and reports", FAMILY, data_disk_full, BOTH),
    ]
