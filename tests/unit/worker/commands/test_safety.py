"""What ops type to keep data safe: backup, restore, retention, each with the exit status that is promised."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from tests.support.accounts import PASSWORD, tokens_of, users_of
from tests.support.backups import work_off
from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_object
from worker.accounts.permissions import Role
from worker.cli import main
from worker.database import Study, utc_now
from worker.pipeline import Pipeline

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs_as_they_were: None) -> Iterator[Pipeline]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FIRSTREAD_MIN_FREE_BYTES", "0")
    made = make_pipeline(f"sqlite:///{tmp_path}/data/firstread.db", tmp_path / "data")
    for _ in range(2):
        spool_object(made.spool, film())
    work_off(made)
    yield made
    made.database.dispose()


@pytest.fixture
def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def type_in(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["firstread", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return type_in


def said(answer: tuple[int, str, str]) -> Any:
    return json.loads(answer[1])


def test_backup_verify_and_restore(
    run: Run, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    users, tokens = users_of(pipeline.database), tokens_of(pipeline.database)
    for name in ("ada", "gone"):
        users.add(name, Role.OPS, PASSWORD)
        tokens.add(f"{name}-ris", Role.OPS, None)
    users.disable("gone")
    tokens.revoke("gone-ris")
    answer = run("backup", target, "--json")
    manifest = said(answer)
    assert (answer[0], manifest["registered"], manifest["reports"], manifest["problems"]) == (0, 2, 2, [])
    code, out, _ = run("backup", target)
    assert (code, "2 objects, 0 arrivals, 2 reports" in out) == (0, True)
    answer = run("backup", target, "--verify", "--json")
    assert (answer[0], said(answer)["damaged"], said(answer)["extra"]) == (0, [], [])
    users.disable("ada")  # which the backup does not know
    tokens.revoke("ada-ris")
    code, _, err = run("restore", target)
    assert (code, "it is not empty" in err, "stop every service" in err) == (1, True, True)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "restored"))
    code, out, _ = run("restore", target, "--dry-run")
    assert (code, "whole" in out, (tmp_path / "restored").exists()) == (0, True, False)
    answer = run("restore", target, "--json")
    restored = said(answer)
    assert answer[0] == 0
    assert restored["reconcile"] == {
        "accepted": 2, "complete": 2, "failed": 0, "not_eligible": 0, "pending": 0, "removed_by_retention": 0,
        "unaccounted": [],
    }  # fmt: skip
    assert (restored["objects"], restored["models_to_install"]) == (2, [])
    assert restored["may_come_in"] == {"accounts": ["ada"], "tokens": ["ada-ris"]}
    assert len(said(run("studies", "--json"))) == 2


def test_what_is_wrong_with_a_backup_is_exit_1(
    run: Run, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    assert run("backup", target)[0] == 0
    victim = min((target / "objects").rglob("*.dcm"))
    victim.write_bytes(b"rot")
    (target / "stranger").touch()
    code, out, err = run("backup", target, "--verify")
    assert (code, "NOT WHOLE" in out) == (1, True)
    assert f"damaged: {victim.relative_to(target)}" in err
    assert "extra: stranger" in err
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "restored"))
    answer = run("restore", target, "--json")
    assert (answer[0], said(answer)["extra"]) == (1, ["stranger"])
    assert not (tmp_path / "restored").exists()
    code, _, err = run("backup", tmp_path / "nothing", "--verify")
    assert (code, "this is no backup" in err) == (1, True)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    pipeline.spool.filed_path(min(pipeline.spool.filed())).unlink()
    code, _, err = run("backup", tmp_path / "another")
    assert (code, "its stored bytes are gone" in err) == (1, True)
    code, _, err = run("backup", tmp_path / "data" / "backup")
    assert (code, "must outlive" in err) == (1, True)


def test_retention(run: Run, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("retention")
    assert (code, "FIRSTREAD_RETENTION_DAYS is not set" in out) == (0, True)
    cut = film()
    cut.PixelData = b"\0\0"
    spool_object(pipeline.spool, cut)
    work_off(pipeline)
    with pipeline.database.write() as session:
        for study in session.exec(select(Study)):
            study.last_received_at = utc_now() - timedelta(days=31)
    monkeypatch.setenv("FIRSTREAD_RETENTION_DAYS", "30")
    code, out, _ = run("retention", "--dry-run")
    assert code == 0
    assert "kept, failed not acknowledged: 1 study" in out
    assert "of 2 instances in 2 studies" in out
    assert len(list(pipeline.spool.filed())) == 3
    assert said(run("retention", "--json"))["removed"]["studies"] == 2
    assert run("acknowledge", cut.StudyInstanceUID)[0] == 0
    assert said(run("retention", "--json"))["removed"]["instances"] == 1
    assert list(pipeline.spool.filed()) == []
    code, out, _ = run("reconcile")
    assert (code, "3 had their stored bytes removed by retention" in out) == (0, True)
    code, out, _ = run("show", cut.StudyInstanceUID)
    assert (code, "stored bytes removed by retention on 2" in out) == (0, True)
    code, _, err = run("reprocess", cut.StudyInstanceUID)
    assert (code, "removed by retention on 2" in err) == (1, True)
    monkeypatch.setenv("FIRSTREAD_RETENTION_FLOOR_BYTES", str(1 << 60))
    answer = run("retention", "--json")
    assert (answer[0], said(answer)["floor_reached"]) == (1, False)


def test_a_floor_that_would_come_too_late_is_a_bad_setting(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_MIN_FREE_BYTES", "2GiB")
    monkeypatch.setenv("FIRSTREAD_RETENTION_FLOOR_BYTES", "1GiB")
    code, _, err = run("retention")
    assert (code, "FIRSTREAD_RETENTION_FLOOR_BYTES='1GiB': say more than FIRSTREAD_MIN_FREE_BYTES" in err) == (2, True)
