"""`firstread config`: what is set, by what, and what comes of what is not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dicom_listener.acceptors import processes
from worker.cli import main
from worker.commands.configuration import masked, masked_database


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a file of settings, and no setting in the environment."""
    for name in [name for name in os.environ if name.startswith("FIRSTREAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *form: str) -> tuple[str, str]:
    monkeypatch.setattr("sys.argv", ["firstread", "config", *form])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    out, err = capsys.readouterr()
    return out, err


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = json.loads(run(monkeypatch, capsys, "--json")[0])
    return settings


def test_each_value_says_where_it_comes_from(own_folder: Path, monkeypatch, capsys) -> None:
    (own_folder / "firstread.toml").write_text('ae_title = "FILE"\ndicom_port = 1\nmetrics_port = 7\n')
    monkeypatch.setenv("FIRSTREAD_DICOM_PORT", "2")
    monkeypatch.setenv("FIRSTREAD_METRICS_PORT", "")  # an empty variable is none
    settings = shown(monkeypatch, capsys)
    said = {name: (one["value"], one["from"]) for name, one in settings.items()}
    assert said["FIRSTREAD_AE_TITLE"] == ("FILE", "file")
    assert said["FIRSTREAD_DICOM_PORT"] == (2, "environment")
    assert said["FIRSTREAD_METRICS_PORT"] == (7, "file")
    assert said["FIRSTREAD_WEB_PORT"] == (8080, "default")
    out, err = run(monkeypatch, capsys)
    rows = {line.split()[1]: line for line in out.splitlines() if "FIRSTREAD_" in line}
    assert "FILE" in rows["FIRSTREAD_AE_TITLE"]
    assert " file " in rows["FIRSTREAD_AE_TITLE"]
    assert " environment " in rows["FIRSTREAD_DICOM_PORT"]
    assert str(own_folder / "firstread.toml") in err


def test_what_is_worked_out_says_what_came_of_it(own_folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("worker.bootstrap.usable_cores", lambda: 6)
    monkeypatch.setenv("FIRSTREAD_INFERENCE_WORKERS", "2")
    monkeypatch.setenv("FIRSTREAD_ENGINE", "keras")
    monkeypatch.setenv("FIRSTREAD_PACS", "PACS@h:1")
    settings = shown(monkeypatch, capsys)
    effective = {name.removeprefix("FIRSTREAD_"): one["effective"] for name, one in settings.items()}
    assert (settings["FIRSTREAD_DECODERS"]["value"], effective["DECODERS"]) == (0, 3)
    assert effective["INFERENCE_WORKERS"] == 2
    assert effective["LISTENER_PROCESSES"] == processes(0)
    assert set(effective["ENGINE"].values()) == {"keras"}
    assert any(name.startswith("chest_xray_triage@") for name in effective["ENGINE"])
    assert effective["DATABASE_URL"] == f"sqlite:///{own_folder}/data/firstread.db"
    assert effective["MODELS_DIR"] == f"{own_folder}/data/models"
    assert effective["COMMITMENT_PEERS"] == ["PACS@h:1"]
    assert effective["WEB_PORT"] == 8080
    assert "0 → 3" in run(monkeypatch, capsys)[0]


def test_secrets_are_masked_whatever_the_form(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FIRSTREAD_BROKER_URL", "amqp://user:hunter2@broker//")
    monkeypatch.setenv("FIRSTREAD_DATABASE_URL", "postgresql://user:hunter2@h/d")
    monkeypatch.setenv("FIRSTREAD_API_TOKEN", "hunter2-hunter2-hunter2")
    for form in ((), ("--json",)):
        out, err = run(monkeypatch, capsys, *form)
        assert "hunter2" not in out + err
        assert "FIRSTREAD_DICOM_PORT" in out


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hun;ter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d?password=hun;ter2&sslmode=require", "postgresql://u@h/d?password=***&sslmode=require"),
        ("sqlite:////srv/firstread.db", "sqlite:////srv/firstread.db"),
    ],
)
def test_no_sign_in_a_password_of_the_database_shows_it(url: str, shown: str) -> None:
    assert masked_database(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:hunter2@broker//", "amqp://user:***@broker//"),
        ("redis://:hunter2@h:1/0", "redis://:***@h:1/0"),
        ("sentinel://:a1@h:1;sentinel://:b2@h:2", "sentinel://:***@h:1;sentinel://:***@h:2"),
        ("postgresql://u:p@ss@h/db?password=x&sslmode=require", "postgresql://u:***@h/db?password=***&sslmode=require"),
        ("sqlite:////data/firstread.db", "sqlite:////data/firstread.db"),
    ],
)
def test_every_form_of_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
