"""Settings of the login: what is allowed, and that a secret is never quoted."""

from pathlib import Path

import pytest

from worker.config import load_settings
from worker.errors import SettingsError

PROVIDER = {
    "OIDC_ISSUER": "https://login.example.org",
    "OIDC_CLIENT_ID": "firstread",
    "OIDC_CLIENT_SECRET": "the-client-secret",
    "OIDC_ROLES": "readers=radiologist",
}


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"FIRSTREAD_{name}", value)


def test_a_provider_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(monkeypatch, **PROVIDER | {"OIDC_ROLES": "readers=radiologist, it=ops"})
    settings = load_settings()
    assert settings.oidc_roles == (("readers", "radiologist"), ("it", "ops"))
    assert settings.client_secret() == "the-client-secret"
    assert "the-client-secret" not in repr(settings)
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.delenv("FIRSTREAD_OIDC_CLIENT_SECRET")
    put(monkeypatch, OIDC_CLIENT_SECRET_FILE=str(tmp_path / "secret"))
    assert load_settings().client_secret() == "from a file"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"API_TOKEN": "the-short-secret"}, "at least 20 characters"),
        ({"SESSION_IDLE_MINUTES": "0"}, "greater than 0"),
        ({"TRUSTED_PROXIES": "10.0.0.0/33"}, "no address or network"),
        ({"TRUSTED_PROXIES": "*"}, "no address or network"),
        (PROVIDER | {"OIDC_ISSUER": "http://login.example.org"}, "https://"),
        (PROVIDER | {"OIDC_ISSUER": "http://127.0.0.1.example.org"}, "https://"),
        (PROVIDER | {"OIDC_ROLES": "readers=chief"}, "roles are radiologist, ops, auditor, admin"),
        (PROVIDER | {"OIDC_ROLES": "readers"}, "is not VALUE=role"),
        (PROVIDER | {"OIDC_CLIENT_ID": ""}, "FIRSTREAD_OIDC_CLIENT_ID is needed"),
        (PROVIDER | {"OIDC_CLIENT_SECRET": ""}, "set one of them"),
    ],
)
def test_what_is_wrong_is_said_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], says: str
) -> None:
    put(monkeypatch, **values)
    with pytest.raises(SettingsError, match=says) as refused:
        load_settings()
    assert "secret" not in str(refused.value).replace("CLIENT_SECRET", "")
