"""Settings: defaults, sources, and messages that name what is wrong and what is allowed."""

from pathlib import Path

import pytest

from worker.config import Peer, load_settings, unknown_names
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
        ("AE_TITLE", "BACK\\SLASH", ("FIRSTREAD_AE_TITLE", "backslash")),
        ("CALLING_AES", "GOOD,A_TITLE_OF_17_CHAR", ("FIRSTREAD_CALLING_AES", "16")),
        ("PACS", "PACS:104", ("FIRSTREAD_PACS", "AE@HOST:PORT")),
        ("MAX_ATTEMPTS", "0", ("FIRSTREAD_MAX_ATTEMPTS", "1")),
        ("ENGINE", "abacus", ("FIRSTREAD_ENGINE", "'abacus'", "keras")),
        ("STUDY_QUIET_SECONDS", "-1", ("FIRSTREAD_STUDY_QUIET_SECONDS", "0")),
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


def test_a_secret_in_a_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTREAD_UNKNOWN_THING", "1")
    assert unknown_names() == ["FIRSTREAD_UNKNOWN_THING"]


@pytest.mark.parametrize("text", ["", "PACS", "P@host", "P@host:0", "@host:1", "P@:1", "TITLE_OF_17_CHARS@h:1"])
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(ValueError, match=r"AE@HOST:PORT|16"):
        Peer.parse(text)
