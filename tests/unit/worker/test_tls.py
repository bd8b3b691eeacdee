"""Our certificate judged before it is used, and the names that others show."""

import datetime as dt
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from worker.config import Credentials
from worker.errors import SettingsError
from worker.tls import SUITES, client_context, inspect, names_of, server_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def wrong(credentials: Credentials) -> str:
    with pytest.raises(SettingsError) as error:
        server_context(credentials, verify_peer=True)
    return str(error.value)


def test_only_the_suites_of_the_profile_are_offered(authority: Authority) -> None:
    ours = authority.issue("firstread")
    for context in (server_context(ours, verify_peer=True), client_context(ours)):
        names = {suite["name"] for suite in context.get_ciphers()}
        assert {name for name in names if not name.startswith("TLS_")} == set(SUITES)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert client_context(ours).check_hostname


def test_what_it_says_of_itself(authority: Authority) -> None:
    ours = inspect(authority.issue("firstread", not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=9, hours=1)))
    assert ours.subject.startswith("CN=firstread")
    assert ours.days_left == 9


def test_an_expired_one_and_one_to_come(authority: Authority) -> None:
    assert "expired on" in wrong(authority.expired("old"))
    begins = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    assert "not valid before" in wrong(authority.issue("soon", not_before=begins))


def test_a_key_of_another_certificate(authority: Authority) -> None:
    ours, other = authority.issue("firstread"), authority.issue("other")
    assert "does not belong to the key" in wrong(Credentials(ours.certificate, other.key, ours.ca))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read(authority: Authority, mode: int) -> None:
    ours = authority.issue("firstread")
    assert ours.key
    ours.key.chmod(mode)
    assert f"mode {mode:04o}" in wrong(ours)


@pytest.mark.parametrize("name", ["certificate", "key", "ca"])
@pytest.mark.parametrize("fault", ["missing", "no PEM"])
def test_files_that_are_none(authority: Authority, name: str, fault: str) -> None:
    ours = authority.issue("firstread")
    path: Path = getattr(ours, name)
    path.unlink() if fault == "missing" else path.write_text("nothing\n")
    said = wrong(ours)
    assert f"FIRSTREAD_TLS_{name.upper()}={path}" in said
    assert ("cannot be read" if fault == "missing" else "PEM form") in said


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.mark.peer("openssl")
def test_an_encrypted_key_is_not_asked_a_password_for(authority: Authority) -> None:
    ours = authority.issue("firstread")
    plain = str(ours.key) + ".plain"
    shutil.move(str(ours.key), plain)
    openssl("pkey", "-in", plain, "-aes256", "-passout", "pass:secret", "-out", str(ours.key))
    assert ours.key
    ours.key.chmod(0o600)
    assert "encrypted" in wrong(ours)


@pytest.mark.peer("openssl")
def test_a_key_that_is_too_short(tmp_path: Path) -> None:
    key, certificate = tmp_path / "short.key", tmp_path / "short.crt"
    made = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=short", "-days", "2"]
    openssl(*made, "-keyout", str(key), "-out", str(certificate))
    key.chmod(0o600)
    assert "2048" in wrong(Credentials(certificate, key, certificate))


def test_the_names_of_a_certificate(authority: Authority) -> None:
    shown = authority.issue("ct1", host="ct1.hospital.example")
    assert shown.certificate
    first, _, _ = shown.certificate.read_text().partition("-----END CERTIFICATE-----")
    names = names_of(ssl.PEM_cert_to_DER_cert(first + "-----END CERTIFICATE-----\n"))
    assert names[0].startswith("CN=ct1,")
    assert names[1:] == ("DNS:ct1.hospital.example",)
    with pytest.raises(ValueError, match="pars"):
        names_of(b"none")


def test_a_client_without_a_ca_trusts_nobody() -> None:
    with pytest.raises(SettingsError, match="FIRSTREAD_TLS_CA"):
        client_context(Credentials())
