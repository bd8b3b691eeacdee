"""A run has a hidden folder of its own, one process in it at a time, and leaves nothing that is of no use."""

import shutil
from pathlib import Path

import pytest

from models.errors import DataError
from models.training.checkpoint import STATE
from models.training.run_folder import RunFolder, broken_off, next_version


def with_state(folder: RunFolder) -> RunFolder:
    (folder.path / STATE).write_bytes(b"")
    return folder


def test_a_version_is_three_numbers_and_new(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MAJOR\.MINOR\.PATCH"):
        RunFolder.new(tmp_path, "tiny", "../1")
    (tmp_path / "tiny" / "1.0.0").mkdir(parents=True)
    with pytest.raises(DataError, match="is there already"):
        RunFolder.new(tmp_path, "tiny", "1.0.0")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="give a folder that can be written into"):
        RunFolder.new(tmp_path / "file" / "below", "tiny", "1.0.0")


def test_what_nothing_was_learnt_in_goes(tmp_path: Path) -> None:
    with RunFolder.new(tmp_path / "models", "tiny", "1.0.0") as run:
        assert run.package.is_dir()
        assert not (tmp_path / "models" / "tiny").exists()
    assert list((tmp_path / "models").iterdir()) == []
    with with_state(RunFolder.new(tmp_path / "models", "tiny", "1.0.0")) as run:
        pass
    assert run.package.is_dir()


def test_runs_that_were_broken_off_are_found(tmp_path: Path) -> None:
    assert broken_off(tmp_path / "nowhere", "tiny") == []
    RunFolder.new(tmp_path, "tiny", "1.0.0")  # killed before it had learnt anything
    one, two = (with_state(RunFolder.new(tmp_path, "tiny", version)) for version in ("1.0.0", "1.1.0"))
    with_state(RunFolder.new(tmp_path, "other", "1.0.0"))
    assert sorted(run.path for run in broken_off(tmp_path, "tiny")) == sorted([one.path, two.path])
    assert [run.path for run in broken_off(tmp_path, "tiny", "1.1.0")] == [two.path]
    with one:
        assert [run.path for run in broken_off(tmp_path, "tiny")] == [two.path]
        with pytest.raises(DataError, match="another process is at work"):
            RunFolder.at(one.path).__enter__()
    shutil.rmtree(one.path)
    with pytest.raises(DataError, match="needs a folder of its own"):
        one.__enter__()
    assert [run.path for run in broken_off(tmp_path, "tiny")] == [two.path]


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", RunFolder.new(tmp_path, "tiny", "1.0.0").path):
        with pytest.raises(DataError, match="no training run was broken off here"):
            RunFolder.at(folder)


def test_the_next_version_is_one_that_nobody_has(tmp_path: Path) -> None:
    assert next_version(tmp_path / "nowhere", "tiny") == "1.0.0"
    assert next_version(tmp_path, "tiny", ["1.0.0"]) == "1.1.0"
    (tmp_path / "tiny" / "1.9.3").mkdir(parents=True)
    (tmp_path / "tiny" / "notes").mkdir()
    (tmp_path / "other" / "7.0.0").mkdir(parents=True)
    assert next_version(tmp_path, "tiny", ["1.0.0"]) == "1.10.0"
    with RunFolder.new(tmp_path, "tiny", "1.10.0"):
        assert next_version(tmp_path, "tiny") == "1.11.0"
    with_state(RunFolder.new(tmp_path, "tiny", "1.11.0"))
    RunFolder.new(tmp_path, "tiny", "1.12.0")  # killed before it had learnt anything
    assert next_version(tmp_path, "tiny") == "1.12.0"
    assert next_version(tmp_path, "tiny", ["2.0.1"]) == "2.1.0"
