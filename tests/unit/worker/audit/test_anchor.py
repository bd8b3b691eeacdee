"""The file of the anchors: private, durable, bounded, and no hindrance when it cannot be written."""

import os
from pathlib import Path

import pytest

from worker.audit.anchor import MOST_LINES, AnchorFile, Anchoring
from worker.database import AuditHead, Database


def head(number: int) -> AuditHead:
    return AuditHead(id=1, count=number, last_id=number, last_sha256=f"{number:064x}", gapless_after=0)


def test_it_is_nobody_elses(tmp_path: Path) -> None:
    file = AnchorFile(tmp_path / "audit" / "anchors.jsonl")
    file.append(head(1))
    assert (file.path.stat().st_mode & 0o777, file.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_each_anchor_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AnchorFile(tmp_path / "anchors.jsonl")
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_size), real(descriptor)))
    file.append(head(1))
    assert file.path.stat().st_size in synced


def test_it_stays_bounded_and_keeps_first_restored_and_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # ten thousand of them are not what is tested here
    file = AnchorFile(tmp_path / "anchors.jsonl")
    for number in range(1, 9001):
        file.append(head(number), restored=number == 2)
    anchors = file.read()
    assert anchors is not None
    numbers = [anchor.id for anchor in anchors.valid]
    assert len(numbers) <= MOST_LINES
    assert numbers[-1000:] == list(range(8001, 9001))
    assert numbers[:2] == [1, 2]
    assert numbers == sorted(numbers)
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_logged_once_and_stops_nothing(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from worker import schema

    database = Database(database_url)
    schema.migrate(database)
    (tmp_path / "audit").write_text("no folder")
    anchoring = Anchoring(database, AnchorFile(tmp_path / "audit" / "anchors.jsonl"), actor="test")
    anchoring.follow()
    anchoring.follow()
    said = capsys.readouterr()
    assert (said.out + said.err).count("audit_not_anchored") == 1
    database.dispose()
