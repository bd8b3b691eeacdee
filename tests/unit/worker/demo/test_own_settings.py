"""The demonstration touches nothing that was set up for real work."""

import os
import socket
from pathlib import Path

import pytest

from worker.config import Peer, load_settings
from worker.demo.own_settings import own_environment, own_settings, usual_or_free

PACS = Peer(ae_title="STANDIN", host="127.0.0.1", port=4242)


def test_the_callers_settings_do_not_reach_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "firstread.toml").write_text(
        'pacs = "REAL@192.0.2.1:104"\ncalling_aes = "MODALITY"\n[[caller]]\ncertificate = "CN=ct1"\n'
    )
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "FIRSTREAD_PACS": "REAL@192.0.2.1:104",
        "FIRSTREAD_DATABASE_URL": "postgresql://real/firstread",
        "FIRSTREAD_BROKER_URL": "redis://real:6379/0",
        "FIRSTREAD_DATA_DIR": "/srv/firstread",
        "FIRSTREAD_DICOM_HOST": "0.0.0.0",
        "FIRSTREAD_DICOM_PLAIN_PORT": "11112",
        "FIRSTREAD_TLS_CERTIFICATE": "/etc/firstread/firstread.crt",
        "FIRSTREAD_TLS_KEY": "/etc/firstread/firstread.key",
        "FIRSTREAD_TLS_CA": "/etc/firstread/ca.pem",
        "FIRSTREAD_MODELS_DIR": str(tmp_path / "models"),
        "OTHER": "kept",
    }.items():
        monkeypatch.setenv(name, value)
    ours = own_settings(tmp_path, PACS)
    environment = own_environment(ours) | {"FIRSTREAD_DATA_DIR": str(ours.data_dir)}
    for name in [name for name in os.environ if name.startswith("FIRSTREAD_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    theirs = load_settings()
    assert theirs.pacs == (PACS,)
    assert theirs.callers == ()
    assert (
        (theirs.tls_certificate, theirs.dicom_plain_port)
        == (ours.tls_certificate, ours.dicom_plain_port)
        == (None, None)
    )
    assert theirs.broker_url == ours.broker_url == ""
    assert theirs.dicom_host == theirs.web_host == "127.0.0.1"
    assert theirs.database_url == f"sqlite:///{tmp_path / 'firstread.db'}"
    assert theirs.models_dir == tmp_path / "models"
    assert environment["OTHER"] == "kept"
    shared = ("data_dir", "dicom_port", "web_port", "study_quiet_seconds", "sweep_seconds", "min_free_bytes")
    assert [getattr(theirs, name) for name in shared] == [getattr(ours, name) for name in shared]


def test_a_usual_port_that_is_taken_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert usual_or_free(port) == 0
    assert usual_or_free(port) == port
