"""What an admin types: accounts, tokens, links; no password is an argument, each secret is shown once."""

import io
import json
import os
from pathlib import Path

import pytest

from tests.support.accounts import PASSWORD, cheap_passwords, events, logins_of
from worker.cli import main
from worker.database import Database


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cheap_passwords(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    made = Database(f"sqlite:///{tmp_path}/data/firstread.db")
    yield made
    made.dispose()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def typed(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["firstread", *arguments])
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return typed


def test_an_account_from_standard_input(run, database: Database) -> None:
    code, out, err = run("users", "add", "Ada", "--role", "radiologist", stdin=f"{PASSWORD}\n")
    assert (code, out) == (0, "ada (radiologist): added\n")
    assert PASSWORD not in out + err
    logins_of(database).by_password("ada", PASSWORD, address="192.0.2.1")
    (shown,) = json.loads(run("users", "list", "--json")[1])
    assert {key: shown[key] for key in ("name", "role", "kind", "enabled")} == {
        "name": "ada", "role": "radiologist", "kind": "password", "enabled": True,
    }  # fmt: skip
    assert "argon2" not in json.dumps(shown)
    code, out, _ = run("users", "list")
    assert code == 0
    assert "ada" in out


def test_a_password_that_is_made_is_shown_once(run, database: Database) -> None:
    made = json.loads(run("users", "add", "ops", "--role", "ops", "--generate", "--json")[1])
    logins_of(database).by_password("ops", made["password"], address="192.0.2.1")
    code, out, err = run("users", "passwd", "ops", "--generate")
    assert code == 0
    renewed = out.partition("password: ")[2].strip()
    assert "note it now" in err
    logins_of(database).by_password("ops", renewed, address="192.0.2.1")
    everything = run("users", "list", "--json")[1] + "".join(event.detail for event in events(database))
    assert renewed not in everything
    assert made["password"] not in everything


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (("users", "add", "ada", "--role", "ops"), "", "no password came on standard input"),
        (("users", "add", "ada", "--role", "ops"), "short\n", "12 to 256 characters"),
        (("users", "add", "two words", "--role", "ops"), PASSWORD, "is no name"),
        (("users", "disable", "nobody"), "", "users list"),
        (("users", "passwd", "nobody"), PASSWORD, "users list"),
        (("tokens", "revoke", "nothing"), "", "tokens list"),
        (("users", "link"), "", "no worklist runs"),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments: tuple[str, ...], stdin: str, says: str) -> None:
    code, out, err = run(*arguments, stdin=stdin)
    assert (code, out) == (1, "")
    assert says in err


def test_a_role_that_is_none_is_bad_usage(run) -> None:
    assert run("users", "add", "ada", "--role", "chief", stdin=PASSWORD)[0] == 2
    assert run("users", "add", "ada", "--role", "ops", "--password", PASSWORD)[0] == 2, "never an argument"


def test_disable_enable_passwd(run, database: Database) -> None:
    run("users", "add", "ada", "--role", "admin", stdin=PASSWORD)
    assert json.loads(run("users", "disable", "ada", "--json")[1])["enabled"] is False
    assert json.loads(run("users", "enable", "ada", "--json")[1])["enabled"] is True
    assert run("users", "passwd", "ada", stdin="another long password\n")[0] == 0
    told = events(database)
    assert [event.action for event in told] == ["user.added", "user.disabled", "user.enabled", "user.password_changed"]
    assert {event.actor for event in told} == {f"operator (uid {os.getuid()})"}


def test_tokens(run, database: Database) -> None:
    code, out, err = run("tokens", "add", "ris", "--role", "ops", "--days", "30")
    secret = out.strip()
    assert code == 0
    assert secret.startswith("firstread_")
    assert "note it now" in err
    made = json.loads(run("tokens", "add", "pacs", "--days", "0", "--json")[1])
    assert (made["role"], made["expires_at"], made["state"]) == ("radiologist", None, "valid")
    assert "2 tokens" in run("tokens", "list")[1]
    assert secret not in run("tokens", "list", "--json")[1] + run("tokens", "list")[1]
    assert run("tokens", "revoke", "ris")[1] == "ris: revoked\n"
    states = {token["name"]: token["state"] for token in json.loads(run("tokens", "list", "--json")[1])}
    assert states == {"ris": "revoked", "pacs": "valid"}


def test_a_link_to_the_worklist_that_runs_here(run, tmp_path: Path, database: Database, monkeypatch) -> None:
    (tmp_path / "data" / "run").mkdir()
    (tmp_path / "data" / "run" / "worklist.json").write_text('{"pid": 1, "url": "http://127.0.0.1:8123/"}')
    link = json.loads(run("users", "link", "--json")[1])["login_link"]
    assert link.startswith("http://127.0.0.1:8123/login/link/")
    logins_of(database).by_link(link.rpartition("/")[2], address="127.0.0.1")
    for name, value in (("WEB_HOST", "0.0.0.0"), ("TRUSTED_PROXIES", "192.0.2.1")):
        monkeypatch.setenv(f"FIRSTREAD_{name}", value)
        code, out, err = run("users", "link")
        assert (code, out) == (1, "")
        assert "on loopback alone" in err
        monkeypatch.delenv(f"FIRSTREAD_{name}")


def test_check_says_who_gets_in(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def login() -> dict[str, object]:
        return next(one for one in json.loads(run("check", "--json")[1]) if one["name"] == "login")

    assert login()["ok"] is True
    assert "nobody yet" in str(login()["found"])
    monkeypatch.setenv("FIRSTREAD_WEB_HOST", "0.0.0.0")
    assert login()["ok"] is False
    assert "firstread users add" in str(login()["fix"])
    run("users", "add", "ada", "--role", "admin", stdin=PASSWORD)
    assert "in clear" in str(login()["found"])
    monkeypatch.setenv("FIRSTREAD_TRUSTED_PROXIES", "192.0.2.1")
    assert login() == {"name": "login", "ok": True, "found": "accounts and tokens in the database", "fix": ""}


def test_secrets_are_masked(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    for name, value in {
        "API_TOKEN": "a-very-secret-token-of-ours",
        "OIDC_ISSUER": "https://login.example.org",
        "OIDC_CLIENT_ID": "firstread",
        "OIDC_CLIENT_SECRET": "a-very-secret-client-secret",
        "OIDC_ROLES": "readers=radiologist, it=ops",
    }.items():
        monkeypatch.setenv(f"FIRSTREAD_{name}", value)
    code, out, err = run("config")
    assert code == 0
    assert "a-very-secret" not in out + err
    shown = json.loads(run("config", "--json")[1])
    assert "a-very-secret" not in json.dumps(shown)
    assert shown["FIRSTREAD_OIDC_ROLES"]["value"] == ["readers=radiologist", "it=ops"]
    monkeypatch.setenv("FIRSTREAD_OIDC_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    code, _, err = run("config")
    assert code == 2
    assert "set one of them" in err
    monkeypatch.setenv("FIRSTREAD_API_TOKEN", "short-secret")
    code, _, err = run("config")
    assert code == 2
    assert "short-secret" not in err
