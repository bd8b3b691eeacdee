"""Settings of the audit trail: what is no receiver, no file or half a pair is named before anything starts."""

from pathlib import Path

import pytest

from worker.config import load_settings
from worker.errors import SettingsError


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("url", ["udp://192.0.2.20:514", "tcp://syslog", "tls://[2001:db8::1]:6514"])
def test_receivers(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FIRSTREAD_AUDIT_SYSLOG", url)
    assert load_settings().audit_syslog == url


@pytest.mark.parametrize(
    "url", ["syslog", "http://h:1", "tcp://", "tcp://h:port", "tcp://h:99999", "tcp://u:secret@h:1", "tcp://h:1/path"]
)
def test_what_is_no_receiver(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FIRSTREAD_AUDIT_SYSLOG", url)
    with pytest.raises(SettingsError, match="FIRSTREAD_AUDIT_SYSLOG"):
        load_settings()


def test_files_of_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIRSTREAD_AUDIT_SYSLOG_CA", "none.pem")
    with pytest.raises(SettingsError, match=r"FIRSTREAD_AUDIT_SYSLOG_CA=.*no such file"):
        load_settings()
    (tmp_path / "a.pem").touch()
    monkeypatch.setenv("FIRSTREAD_AUDIT_SYSLOG_CA", "a.pem")
    assert load_settings().audit_syslog_ca == tmp_path / "a.pem"
    monkeypatch.setenv("FIRSTREAD_AUDIT_SYSLOG_CERTIFICATE", "a.pem")
    with pytest.raises(SettingsError, match="go together"):
        load_settings()
    monkeypatch.setenv("FIRSTREAD_AUDIT_SYSLOG_KEY", "a.pem")
    assert load_settings().audit_syslog_key == tmp_path / "a.pem"
