"""Headers that want more than they may have: a visible failure each, memory bounded, neighbours registered."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlmodel import select

from tests.support.bombs import MIB, header_bombs
from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_bytes, spool_object
from worker.database import Instance
from worker.intake.headers import HEADER_BYTES, HeaderReader
from worker.intake.registration import ATTRIBUTES
from worker.intake.routing import Router

KEYWORDS = ATTRIBUTES | Router((), {}).keywords
BOMBS = header_bombs()
HARMLESS = {
    "a name of 1 MB", "a name of 5 MB", "a UID of 1 MB", "decimals of 1 MB", "a number of a million digits",
    "half a million descriptions", "character sets of 1 MB", "a million escapes", "a character set of Python",
    "private creators", "an item without sequence",
}  # fmt: skip
"""Read to their end, within bounds: what is absurd in them is cut short or counts as absent."""


def peak(pid: int) -> int:
    """The largest resident memory of a process since it was last asked for, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.fixture(scope="module")
def reader() -> Iterator[HeaderReader]:
    with HeaderReader(seconds=120) as reader:  # CPU time is what is measured: the machine may be busy with others
        yield reader


def child_of(reader: HeaderReader) -> int:
    child = reader.child._child  # its own: others of this process may have one too
    return child.pid if child is not None else 0


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_bounded(reader: HeaderReader, tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(BOMBS[name])
    reader.child.layers()  # a child is there, and its imports are over
    child = child_of(reader)
    for pid in (os.getpid(), child):
        forget_peak(pid)
    ours, before = peak(os.getpid()), psutil.Process(child).cpu_times()
    stored = reader.read(path, KEYWORDS)
    assert bool(stored.defect) == (name not in HARMLESS), stored.defect
    assert stored.sop_instance_uid == "1.2.3.4"
    assert all(len(text) <= 1024 for values in stored.header.values() for text in values)
    assert peak(os.getpid()) - ours < 32 * MIB
    if psutil.pid_exists(child) and child == child_of(reader):
        assert peak(child) < HEADER_BYTES
        after = psutil.Process(child).cpu_times()
        assert after.user + after.system - before.user - before.system < 15


def test_neighbours_of_bombs_are_registered(tmp_path: Path, reader: HeaderReader) -> None:
    pipeline = make_pipeline(f"sqlite:///{tmp_path / 'firstread.db'}", tmp_path)
    assert pipeline.arrivals
    pipeline.arrivals.headers = reader
    good = []
    bombs = [BOMBS[name] for name in ("deflated", "nested", "half a million elements", "longer than the object")]
    for bomb in bombs:
        spool_bytes(pipeline.spool, bomb)
        good.append(film())
        spool_object(pipeline.spool, good[-1])
    while pipeline.register_arrivals():
        pass
    with pipeline.database.read() as session:
        rows = session.exec(select(Instance)).all()
    pipeline.database.dispose()
    assert not list(pipeline.spool.arrivals())
    assert len(rows) == 2 * len(bombs)
    states = {row.sop_instance_uid: row.status for row in rows}
    assert [states[str(one.SOPInstanceUID)] for one in good] == ["pending"] * len(good)
    assert all(row.reason for row in rows if row.status != "pending")
