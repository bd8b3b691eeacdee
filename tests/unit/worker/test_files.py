"""Directories of our own: private, and there after a power cut."""

import os
import stat
from pathlib import Path

import pytest

from worker import files
from worker.files import make_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o755


def test_missing_parents_are_private_too_those_that_are_there_are_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        made = make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [mode(path) for path in (made, made.parent, tmp_path)] == [0o700, 0o700, 0o755]


def test_new_directories_are_durable_in_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    make_private(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    make_private(tmp_path / "a" / "b")
    assert len(synced) == 2
