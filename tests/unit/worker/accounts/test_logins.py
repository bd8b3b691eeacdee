"""Logging in: let in or refused in the same words, each an audit event; links that work once; provider's people."""

import json
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
import structlog
from argon2 import PasswordHasher
from sqlmodel import select

from tests.support.accounts import LIFETIME, PASSWORD, events, logins_of, users_of
from worker.accounts import sessions
from worker.accounts.logins import REFUSED, Person
from worker.accounts.permissions import Role
from worker.database import Account, Database, LoginLink, LoginSession, utc_now
from worker.errors import AccountError, LoginRefused

HERE = "192.0.2.1"
ISSUER = "https://login.example.org"


@pytest.fixture
def ada(database: Database) -> None:
    users_of(database).add("ada", Role.RADIOLOGIST, PASSWORD)


def who(database: Database, token: str) -> tuple[str, Role] | None:
    found = sessions.find(database, token, LIFETIME, active=True)
    return found and (found.name, found.role)


def test_the_right_password_begins_a_session(database: Database, ada: None) -> None:
    token = logins_of(database).by_password(" Ada", PASSWORD, address=HERE)
    assert who(database, token) == ("ada", Role.RADIOLOGIST)
    assert token != logins_of(database).by_password("ada", PASSWORD, address=HERE)
    (first, _) = events(database, "login.succeeded")
    assert (first.actor, first.subject, json.loads(first.detail)) == ("ada", "ada", {"from": HERE, "how": "password"})
    assert users_of(database).listed()[0].last_login_at is not None


def test_every_refusal_says_the_same_and_the_trail_says_which(database: Database, ada: None) -> None:
    users_of(database).add("bob", Role.OPS, PASSWORD)
    users_of(database).disable("bob")
    typed = "my-password-in-the-wrong-field"
    with structlog.testing.capture_logs() as logs:
        for name, password in (("ada", "wrong password"), (typed, PASSWORD), ("bob", PASSWORD), ("ada", "")):
            with pytest.raises(LoginRefused) as refused:
                logins_of(database).by_password(name, password, address=HERE)
            assert str(refused.value) == REFUSED
    told = events(database, "login.failed")
    assert [(event.subject, json.loads(event.detail)["why"]) for event in told] == [
        ("ada", "wrong password"), ("unknown", "unknown account"), ("bob", "disabled"), ("ada", "wrong password"),
    ]  # fmt: skip
    assert {event.actor for event in told} == {"nobody"}
    assert [line["event"] for line in logs] == ["login_failed"] * 4
    for written in (repr(logs), repr([event.detail + event.subject for event in told])):
        assert typed not in written, "what is typed as a name may be a password"
        assert PASSWORD not in written


def test_an_old_hash_is_renewed_at_login(database: Database, ada: None) -> None:
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    with database.write() as session:
        session.execute(sa.update(Account).values(password_hash=old))
    logins_of(database).by_password("ada", PASSWORD, address=HERE)
    with database.read() as session:
        renewed = session.exec(select(Account.password_hash)).one()
    assert "m=8,t=1" in renewed
    logins_of(database).by_password("ada", PASSWORD, address=HERE)


def test_an_account_that_is_disabled_while_the_password_is_looked_at_stays_out(
    database: Database, ada: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.accounts import passwords

    real = passwords.verify

    def slow(known: str | None, given: str) -> bool:
        users_of(database).disable("ada")
        return real(known, given)

    monkeypatch.setattr(passwords, "verify", slow)
    with pytest.raises(LoginRefused):
        logins_of(database).by_password("ada", PASSWORD, address=HERE)
    with database.read() as session:
        assert session.exec(select(LoginSession)).all() == []


def test_a_link_works_once(database: Database) -> None:
    link = logins_of(database).new_link(actor="up")
    with database.read() as session:
        assert link not in repr(session.exec(select(LoginLink)).all()), "only its digest is kept"
    token = logins_of(database).by_link(link, address=HERE)
    assert who(database, token) == ("one-time link", Role.ADMIN)
    with pytest.raises(LoginRefused, match="users link"):
        logins_of(database).by_link(link, address=HERE)
    with pytest.raises(LoginRefused):
        logins_of(database).by_link("never-was", address=HERE)
    assert [event.action for event in events(database)] == [
        "login.link_made", "login.succeeded", "login.failed", "login.failed",
    ]  # fmt: skip
    assert link not in "".join(event.detail for event in events(database))


def test_a_link_that_several_open_at_once_lets_one_in(database: Database) -> None:
    link = logins_of(database).new_link(actor="up")
    tokens: list[str] = []
    refused: list[LoginRefused] = []

    def open_it() -> None:
        try:
            tokens.append(logins_of(database).by_link(link, address=HERE))
        except LoginRefused as error:
            refused.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(tokens), len(refused)) == (1, 5)


def test_a_link_is_soon_too_old(database: Database) -> None:
    link = logins_of(database).new_link(actor="up")
    with database.write() as session:
        kept = session.exec(select(LoginLink)).one()
        assert kept.expires_at - kept.created_at == timedelta(minutes=15)
        kept.expires_at = utc_now() - timedelta(seconds=1)
        session.add(kept)
    with pytest.raises(LoginRefused):
        logins_of(database).by_link(link, address=HERE)


def test_a_person_of_a_provider_gets_an_account_and_the_role_of_the_day(database: Database) -> None:
    first = logins_of(database).by_provider(Person(ISSUER, "17", "Grace", Role.RADIOLOGIST), address=HERE)
    assert who(database, first) == ("grace", Role.RADIOLOGIST)
    logins_of(database).by_provider(Person(ISSUER, "17", "grace.new.name", Role.OPS), address=HERE)
    assert who(database, first) == ("grace", Role.OPS)
    (shown,) = users_of(database).listed()
    assert (shown.name, shown.kind) == ("grace", "oidc")
    with pytest.raises(AccountError, match="kept there"):
        users_of(database).change_password("grace", PASSWORD)
    with pytest.raises(LoginRefused):
        logins_of(database).by_password("grace", "", address=HERE)


def test_a_name_of_a_provider_takes_no_account_over(database: Database, ada: None) -> None:
    for person in (Person(ISSUER, "17", "ada", Role.ADMIN), Person(ISSUER, "18", "no name!", Role.ADMIN)):
        with pytest.raises(LoginRefused):
            logins_of(database).by_provider(person, address=HERE)
    logins_of(database).by_provider(Person(ISSUER, "1", "grace", Role.OPS), address=HERE)
    with pytest.raises(LoginRefused):
        logins_of(database).by_provider(Person("https://other.example.org", "1", "grace", Role.ADMIN), address=HERE)
    assert {(user.name, user.role) for user in users_of(database).listed()} == {
        ("ada", "radiologist"),
        ("grace", "ops"),
    }


def test_a_person_of_a_provider_who_is_disabled_here_stays_out(database: Database) -> None:
    grace = Person(ISSUER, "17", "grace", Role.RADIOLOGIST)
    token = logins_of(database).by_provider(grace, address=HERE)
    users_of(database).disable("grace")
    assert who(database, token) is None
    with pytest.raises(LoginRefused):
        logins_of(database).by_provider(grace, address=HERE)
