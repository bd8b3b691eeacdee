"""Settings: defaults, sources, and messages that name what is wrong and what is allowed."""

from pathlib import Path

import pytest

from worker.bootstrap import commitment_policy
from worker.config import Peer, load_settings, made_data_dir, unknown_names
from worker.errors import SettingsError


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.data_dir == tmp_path / ".local/share/firstread"
    assert (settings.ae_title, settings.dicom_host, settings.dicom_port) == ("FIRSTREAD", "127.0.0.1", 11112)
    assert (settings.web_host, settings.web_port, settings.max_associations) == ("127.0.0.1", 8080, 100)
    assert (settings.max_object_bytes, settings.min_free_bytes) == (2 << 30, 1 << 30)
    assert settings.effective_database_url == f"sqlite:///{settings.data_dir}/firstread.db"


def test_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "x"))
    assert load_settings().data_dir == tmp_path / "x/firstread"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "firstread.toml").write_text(
        'ae_title = "FILE"\ndicom_port = 4000\npacs = ["A@h:1", "B@h:2"]\n'
        '[[route]]\nname = "trial"\nwhen = { StudyDescription = "*TRIAL*" }\nnot_eligible = "a trial"\n'
    )
    monkeypatch.setenv("FIRSTREAD_AE_TITLE", "ENVIRONMENT")
    settings = load_settings()
    assert (settings.ae_title, settings.dicom_port) == ("ENVIRONMENT", 4000)
    assert [str(peer) for peer in settings.pacs] == ["A@h:1", "B@h:2"]
    assert settings.route[0].when == {"StudyDescription": ("*TRIAL*",)}


def test_storage_commitment_goes_to_the_peer_that_is_set_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_PACS", "PACS@192.0.2.1:104,CT1@192.0.2.2:104,CT1@192.0.2.3:104")
    monkeypatch.setenv("FIRSTREAD_COMMITMENT_PEERS", "CT2@192.0.2.4:104,PACS@192.0.2.5:104")
    monkeypatch.setenv("FIRSTREAD_COMMITMENT_FROM", "PACS")
    policy = commitment_policy(load_settings())
    assert {name: peer.host for name, peer in policy.peers.items()} == {
        "PACS": "192.0.2.5", "CT1": "192.0.2.2", "CT2": "192.0.2.4",
    }  # fmt: skip
    assert (policy.ask_of, policy.answer_seconds) == (("PACS",), 600)


def test_lists_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_CALLING_AES", "CT1, CT2,")
    monkeypatch.setenv("FIRSTREAD_PACS", "PACS@192.0.2.1:104,ARCHIVE@[2001:db8::1]:11112")
    settings = load_settings()
    assert settings.calling_aes == ("CT1", "CT2")
    assert [(p.host, p.port) for p in settings.pacs] == [("192.0.2.1", 104), ("2001:db8::1", 11112)]
    assert str(settings.pacs[1]) == "ARCHIVE@[2001:db8::1]:11112"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DICOM_PORT", "70000", ("FIRSTREAD_DICOM_PORT", "'70000'", "65535")),
        ("DICOM_PORT", "eleven", ("FIRSTREAD_DICOM_PORT", "'eleven'", "integer")),
        ("AE_TITLE", "A_TITLE_OF_17_CHAR", ("FIRSTREAD_AE_TITLE", "16")),
        ("COMMITMENT_PEERS", "CT1", ("FIRSTREAD_COMMITMENT_PEERS", "'CT1'", "AE@HOST:PORT")),
        ("COMMITMENT_FROM", "all,ARCHIVE", ("FIRSTREAD_COMMITMENT_FROM", "ARCHIVE", "FIRSTREAD_PACS", "or all")),
        ("AE_TITLE", "BACK\\SLASH", ("FIRSTREAD_AE_TITLE", "backslash")),
        ("CALLING_AES", "GOOD,A_TITLE_OF_17_CHAR", ("FIRSTREAD_CALLING_AES", "16")),
        ("PACS", "PACS:104", ("FIRSTREAD_PACS", "AE@HOST:PORT")),
        ("MAX_ATTEMPTS", "0", ("FIRSTREAD_MAX_ATTEMPTS", "1")),
        ("DECODERS", "-1", ("FIRSTREAD_DECODERS", "'-1'", "0")),
        ("ENGINE", "abacus", ("FIRSTREAD_ENGINE", "'abacus'", "keras")),
        ("STUDY_QUIET_SECONDS", "-1", ("FIRSTREAD_STUDY_QUIET_SECONDS", "0")),
        ("MIN_FREE_BYTES", "plenty", ("FIRSTREAD_MIN_FREE_BYTES", "'plenty'", "2GiB")),
        ("MIN_FREE_BYTES", "3 sacks", ("FIRSTREAD_MIN_FREE_BYTES", "2GiB")),
        ("BROKER_URL", "kafka://h:1", ("FIRSTREAD_BROKER_URL", "kafka://", "redis://", "amqps://")),
        ("BROKER_URL", "redis://h:1;kafka://h:1", ("FIRSTREAD_BROKER_URL", "kafka://")),
        ("BROKER_URL", "localhost:6379", ("FIRSTREAD_BROKER_URL", "no URL", "redis+socket://")),
        ("DATABASE_URL", "mysql://h/db", ("FIRSTREAD_DATABASE_URL", "mysql://", "sqlite://", "postgresql+psycopg://")),
        ("DATABASE_URL", "postgresql://u:p@h:x/db", ("FIRSTREAD_DATABASE_URL", "port")),
        ("CALLING_AES", "CT1,CT2@10.0.0.300", ("FIRSTREAD_CALLING_AES", "'10.0.0.300'", "192.0.2.0/24")),
        ("CALLING_AES", "CT2@10.0.0.1/24", ("FIRSTREAD_CALLING_AES", "host bits")),
        ("CALLER", '[{"ae_title": "CT1", "adress": "192.0.2.7"}]', ("FIRSTREAD_CALLER", "adress")),
        ("CALLER", "[{}]", ("FIRSTREAD_CALLER", "anybody")),
        ("CALLER", '[{"certificate": "CN=ct1*"}]', ("FIRSTREAD_CALLER", "FIRSTREAD_TLS_CERTIFICATE")),
        ("CALLER", '[{"addresses": ["192.0.2.0/33"]}]', ("FIRSTREAD_CALLER", "192.0.2.0/33")),
        ("PACS", "PACS@h:104/tls", ("FIRSTREAD_TLS_CA", "PACS@h:104/tls")),
        ("PACS", "PACS@h:104/ssl", ("FIRSTREAD_PACS", "/tls")),
        ("TLS_CERTIFICATE", "/c.pem", ("FIRSTREAD_TLS_KEY", "FIRSTREAD_TLS_CERTIFICATE")),
        ("TLS_CERTIFICATE", "/c.pem", ("FIRSTREAD_TLS_VERIFY_PEER", "FIRSTREAD_TLS_CA")),
        ("TLS_KEY", "/c.key", ("FIRSTREAD_TLS_KEY", "FIRSTREAD_TLS_CERTIFICATE")),
        ("DICOM_PLAIN_PORT", "104", ("FIRSTREAD_DICOM_PLAIN_PORT", "plain already")),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv(f"FIRSTREAD_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    for word in words:
        assert word in str(error.value)


def test_every_bad_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_DICOM_PORT", "x")
    monkeypatch.setenv("FIRSTREAD_WEB_PORT", "y")
    with pytest.raises(SettingsError, match=r"(?s)DICOM_PORT.*WEB_PORT"):
        load_settings()


def test_a_bad_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "firstread.toml").write_text("dicom_port = = 3")
    with pytest.raises(SettingsError, match=r"firstread\.toml"):
        load_settings()
    monkeypatch.setenv("FIRSTREAD_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings()


def test_a_route_must_go_somewhere(tmp_path: Path) -> None:
    (tmp_path / "firstread.toml").write_text('[[route]]\nname = "lost"\nwhen = {}\n')
    with pytest.raises(SettingsError, match="lost"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BROKER_URL", "kafka://user:hunter2@h:1"),
        ("BROKER_URL", "user:hunter2@h:1"),
        ("BROKER_URL", "hunter2 of mine://h"),
        ("DATABASE_URL", "mysql://user:hunter2@h/db"),
        ("DATABASE_URL", "postgresql://user:hunter2@h:x/db"),
        ("DATABASE_URL", "postgresql://user:a@hunter2:b@h/db"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_secret_in_a_url_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, url: str, in_file: bool
) -> None:
    if in_file:
        (tmp_path / "firstread.toml").write_text(f'{name.lower()} = "{url}"\n')
    else:
        monkeypatch.setenv(f"FIRSTREAD_{name}", url)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BROKER_URL", "redis://:secret@h:6379/0"),
        ("BROKER_URL", "redis+socket:///run/redis.sock"),
        ("BROKER_URL", "sentinel://:a@h1:26379;sentinel://:b@h2:26379"),
        ("BROKER_URL", "amqp://user:p@broker//"),
        ("BROKER_URL", "amqps://[2001:db8::1]:5671//"),
        ("DATABASE_URL", "sqlite:////data/firstread.db"),
        ("DATABASE_URL", "postgresql+psycopg://u:p%40ss%3Aword@h:5432/db?sslmode=require"),
        ("DATABASE_URL", "postgresql:///db?host=/run/postgresql"),
    ],
)
def test_urls_that_are_supported(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(f"FIRSTREAD_{name}", url)
    assert getattr(load_settings(), name.lower()) == url


@pytest.mark.parametrize(("text", "expected"), [("2GiB", 2 << 30), ("500 MB", 500_000_000), ("4096", 4096)])
def test_sizes_are_bytes_or_have_a_unit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: int
) -> None:
    monkeypatch.setenv("FIRSTREAD_MIN_FREE_BYTES", text)
    (tmp_path / "firstread.toml").write_text("max_object_bytes = 4096\n")
    assert (load_settings().min_free_bytes, load_settings().max_object_bytes) == (expected, 4096)


def test_names_that_are_no_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIRSTREAD_UNKNOWN_THING", "1")
    assert unknown_names() == ["FIRSTREAD_UNKNOWN_THING"]
    monkeypatch.setenv("FIRSTREAD_CONFIG", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text('dicomport = 1\nae_title = "X"\n[[rout]]\nname = "r"\n')
    assert load_settings().dicom_port == 11112
    site = tmp_path / "site.toml"
    assert unknown_names() == ["FIRSTREAD_UNKNOWN_THING", f"{site}: dicomport", f"{site}: rout"]


def test_what_is_wrong_in_the_file_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIRSTREAD_CONFIG", str(tmp_path / "site.toml"))
    (tmp_path / "site.toml").write_text('dicom_port = "x"\n[[route]]\nname = "r"\nwhen = {}\nmodels = "m"\n')
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert f"{tmp_path}/site.toml: dicom_port='x'" in str(error.value)
    assert f"{tmp_path}/site.toml: route.0.models" in str(error.value)
    assert "firstread.toml" not in str(error.value)
    monkeypatch.setenv("FIRSTREAD_DICOM_PORT", "y")
    with pytest.raises(SettingsError, match="FIRSTREAD_DICOM_PORT='y'"):
        load_settings()


@pytest.mark.parametrize("keyword", ["Modalty", "Modality|Modalty", "", "Modality | BodyPartExamined"])
def test_a_condition_is_about_a_dicom_attribute(tmp_path: Path, keyword: str) -> None:
    (tmp_path / "firstread.toml").write_text(
        f'[[route]]\nname = "films"\nwhen = {{ "{keyword}" = "CR" }}\nmodel = "m"\n'
    )
    with pytest.raises(SettingsError, match="no DICOM keyword") as error:
        load_settings()
    if "Modalty" in keyword:
        assert "'Modalty' is no DICOM keyword (PS3.6 chapter 6); did you mean Modality?" in str(error.value)


def test_a_data_directory_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert made_data_dir(load_settings(data_dir=tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for impossible in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/foo")):
        with pytest.raises(SettingsError, match=f"FIRSTREAD_DATA_DIR={impossible}: it cannot be made"):
            made_data_dir(load_settings(data_dir=impossible))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SettingsError, match="may not write"):
        made_data_dir(load_settings(data_dir=tmp_path))


@pytest.mark.parametrize("text", ["", "PACS", "P@host", "P@host:0", "@host:1", "P@:1", "TITLE_OF_17_CHARS@h:1"])
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(ValueError, match=r"AE@HOST:PORT|16"):
        Peer.parse(text)


def test_callers_of_both_settings_are_one_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "firstread.toml").write_text(
        '[[caller]]\nae_title = "DX1"\naddresses = ["198.51.100.0/24", "2001:db8::7"]\n'
        '[[caller]]\naddresses = "192.0.2.9"\n'
    )
    monkeypatch.setenv("FIRSTREAD_CALLING_AES", "CT1,CT2@192.0.2.7,CT3@2001:db8::/32")
    settings = load_settings()
    assert settings.calling_aes == ("CT1", "CT2@192.0.2.7", "CT3@2001:db8::/32")
    assert settings.known_calling_aes == ("CT1", "CT2", "CT3", "DX1")
    assert [[str(network) for network in caller.addresses] for caller in settings.callers] == [
        [], ["192.0.2.7/32"], ["2001:db8::/32"], ["198.51.100.0/24", "2001:db8::7/128"], ["192.0.2.9/32"],
    ]  # fmt: skip


def test_a_destination_over_tls_is_written_as_it_is_read() -> None:
    secure, plain = Peer.parse("PACS@[2001:db8::1]:2762/tls"), Peer.parse("PACS@[2001:db8::1]:2762")
    assert secure.tls
    assert str(secure) == "PACS@[2001:db8::1]:2762/tls"
    assert plain.secured_as([secure]) == secure
    assert secure.secured_as([plain]) == secure, "never the other way"
    assert plain.secured_as([Peer.parse("OTHER@[2001:db8::1]:2762/tls")]) == plain
