"""Who looked at what is written down before it is shown, once while a look lasts, and never whom a search was for."""

import json
from pathlib import Path

import pytest

from tests.support.accounts import PASSWORD, Site, events, log_in, site, users_of
from tests.support.worklist_rows import uid
from worker.accounts.permissions import Role
from worker.audit.log import record
from worker.worklist.login import looks
from worker.worklist.login.looks import Looks

SEEN = ("study.viewed", "studies.listed", "audit.viewed")


def told(made: Site, actor: str) -> list[tuple[str, str, str]]:
    return [
        (event.action, event.subject, json.loads(event.detail)["by"])
        for event in events(made.database, *SEEN)
        if event.actor == actor
    ]


def test_an_open_page_is_one_event(shared: Site) -> None:
    with shared.logged_in(Role.RADIOLOGIST) as client:
        client.get("/")
        client.get(f"/studies/{uid(6)}")
        client.get("/previews/6.png")
        for _ in range(40):
            client.get("/fragments/worklist", headers={"hx-trigger": "live"})
            client.get(f"/fragments/studies/{uid(6)}", params={"seen": "x"}, headers={"hx-trigger": "live"})
    assert told(shared, "the-radiologist") == [("studies.listed", "all", "page"), ("study.viewed", uid(6), "page")]


def test_each_study_and_each_kind_of_list_is_told_with_where_from_and_no_name(shared: Site) -> None:
    users_of(shared.database).add("ada", Role.ADMIN, PASSWORD)
    with shared.client() as client:
        log_in(client, "ada", PASSWORD)
        for number in (5, 6, 5):
            client.get(f"/api/v1/studies/{uid(number)}")
        client.get("/?search=Ursula&show=urgent")
        client.get("/fragments/worklist?search=Yamada&show=urgent")
        client.get("/api/v1/studies?search=PID-0005&status=failed")
        client.get("/previews/8.png")
        client.get("/audit")
        client.get("/studies/1.2.3")
    assert told(shared, "ada") == [
        ("study.viewed", uid(5), "api"),
        ("study.viewed", uid(6), "api"),
        ("studies.listed", "urgent, searched", "page"),
        ("studies.listed", "failed, searched", "api"),
        ("study.viewed", uid(7), "picture"),
        ("audit.viewed", "audit trail", "page"),
    ]
    everything = "".join(f"{event.actor}{event.subject}{event.detail}" for event in events(shared.database))
    for word in ("Ursula", "URSULA", "Yamada", "YAMADA", "PID-0005", "ACC-"):
        assert word not in everything
    assert {json.loads(event.detail)["from"] for event in events(shared.database, *SEEN)} == {"127.0.0.1"}


def test_two_logins_are_two_looks(shared: Site) -> None:
    users_of(shared.database).add("bob", Role.RADIOLOGIST, PASSWORD)
    for _ in range(2):
        with shared.client() as client:
            log_in(client, "bob", PASSWORD)
            client.get(f"/studies/{uid(6)}")
            client.get(f"/studies/{uid(6)}")
    assert len(told(shared, "bob")) == 2


def test_a_look_that_goes_on_is_said_again(shared: Site) -> None:
    now = [0.0]
    written = Looks(shared.database, record, clock=lambda: now[0])

    def look() -> int:
        written.write("somebody", "study.viewed", "1.2.3.4", {"from": "here"}, actor="clock")
        return sum(event.actor == "clock" for event in events(shared.database))

    counts = []
    for moment in (0, 1, 899, 901, 902, 1802):
        now[0] = moment
        counts.append(look())
    assert counts == [1, 1, 1, 2, 2, 3]


def test_no_more_looks_are_remembered_than_fit(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "MOST_LOOKS", 3)
    written = Looks(shared.database, record)
    for number in range(5):
        written.write("somebody", "study.viewed", f"1.2.3.{number}", {"from": "here"}, actor="many")
    assert len(written._known) == 3


def test_what_cannot_be_written_down_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def full(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    with site(tmp_path) as made, made.logged_in(Role.RADIOLOGIST) as client:
        monkeypatch.setattr(looks.Looks, "write", full)
        for path in ("/", f"/studies/{uid(6)}", "/api/v1/studies", "/previews/6.png"):
            answer = client.get(path)
            assert answer.status_code == 503, path
            assert "YAMADA" not in answer.text
