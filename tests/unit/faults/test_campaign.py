"""The campaign's bounds and its exit: what was not run is named, and is no success."""

import re
import shlex
from pathlib import Path

import pytest

from tests.faults.__main__ import main
from tests.faults.campaign import Campaign, chosen
from tests.faults.trial import Result

PAGE = Path(__file__).parents[3] / "deploy" / "faults.md"


def test_every_row_of_the_page_names_faults_that_there_are() -> None:
    commands = re.findall(r"`(--only [^`]+)`", PAGE.read_text())
    assert len(commands) > 10
    meant = {scenario.name for command in commands for scenario in chosen(shlex.split(command)[1:])}
    assert {scenario.name for scenario in chosen()} <= meant, "every fault stands in deploy/faults.md"


def test_what_the_bound_leaves_over_is_named_and_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.campaign.site", _NoSite)
    campaign = Campaign(chosen(["resent"]), databases=("sqlite",), minutes=0)
    campaign.run()
    assert [(result.fault, result.outcome) for result in campaign.results] == [
        ("resent, identical", "not run"),
        ("resent, altered", "not run"),
    ]
    assert not campaign.ok()


class _NoSite:
    def __init__(self, _database: str) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_site_that_cannot_be_made_breaks_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_site(_database: str) -> _NoSite:
        raise OSError("no room")

    monkeypatch.setattr("tests.faults.campaign.site", no_site)
    campaign = Campaign(chosen(["resent, identical"]), databases=("sqlite",))
    campaign.run()
    (result,) = campaign.results
    assert result.outcome == "broken"
    assert "no room" in result.why[0]
    assert not campaign.ok()


@pytest.mark.parametrize(
    ("outcomes", "ok"),
    [
        (["held", "held"], True),
        (["held", "not here"], True),
        (["held", "broken"], False),
        (["not run"], False),
        ([], False),
    ],
)
def test_success_is_all_held(outcomes: list[str], *, ok: bool) -> None:
    campaign = Campaign([])
    campaign.results += [Result("a", "b", "sqlite", outcome=outcome) for outcome in outcomes]
    assert campaign.ok() is ok


def test_a_word_that_means_no_fault_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "no such fault"])
    assert ended.value.code == 2
    assert "no such fault" in capsys.readouterr().err
