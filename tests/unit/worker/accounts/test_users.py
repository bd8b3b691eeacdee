"""Accounts: made, disabled, enabled, changed; each time an audit event, and the sessions end."""

import json

import pytest

from tests.support.accounts import LIFETIME, PASSWORD, events, logins_of, users_of
from worker.accounts import sessions, users
from worker.accounts.permissions import Role
from worker.database import Account, Database
from worker.errors import AccountError, LoginRefused, NotFound


def open_session(database: Database, name: str) -> str:
    return logins_of(database).by_password(name, PASSWORD, address="192.0.2.1")


def is_in(database: Database, token: str) -> bool:
    return sessions.find(database, token, LIFETIME, active=True) is not None


def test_an_account_is_one_however_its_name_is_written(database: Database) -> None:
    made = users_of(database).add(" Ada ", Role.RADIOLOGIST, PASSWORD)
    assert (made.name, made.role, made.enabled) == ("ada", "radiologist", True)
    with pytest.raises(AccountError, match="already"):
        users_of(database).add("ADA", Role.ADMIN, PASSWORD)
    with database.read() as session:
        kept = session.get(Account, 1)
    assert kept.password_hash.startswith("$argon2id$")
    assert [user.name for user in users_of(database).listed()] == ["ada"]
    shown = json.dumps([user.as_json() for user in users_of(database).listed()])
    assert "argon2" not in shown


@pytest.mark.parametrize("name", ["", "two words", "-dash", "x" * 65, "semi;colon", "n\u00fcll"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(AccountError, match="is no name"):
        users.checked_name(name)


def test_disabling_ends_the_sessions_and_the_login(database: Database) -> None:
    users_of(database).add("ada", Role.RADIOLOGIST, PASSWORD)
    users_of(database).add("bob", Role.RADIOLOGIST, PASSWORD)
    token, other = open_session(database, "ada"), open_session(database, "bob")
    assert is_in(database, token)
    assert not users_of(database).disable("ada").enabled
    assert not is_in(database, token)
    assert is_in(database, other)
    with pytest.raises(LoginRefused):
        open_session(database, "ada")
    users_of(database).enable("ada")
    assert not is_in(database, token), "an ended session stays ended"
    assert is_in(database, open_session(database, "ada"))


def test_a_new_password_ends_the_sessions_and_the_old_password(database: Database) -> None:
    users_of(database).add("ada", Role.RADIOLOGIST, PASSWORD)
    token = open_session(database, "ada")
    users_of(database).change_password("ada", "another long password")
    assert not is_in(database, token)
    with pytest.raises(LoginRefused):
        open_session(database, "ada")
    logins_of(database).by_password("ada", "another long password", address="192.0.2.1")


def test_each_change_is_an_audit_event_without_the_password(database: Database) -> None:
    accounts = users_of(database)
    accounts.add("ada", Role.RADIOLOGIST, PASSWORD)
    accounts.disable("ada")
    accounts.enable("ada")
    accounts.change_password("ada", "another long password")
    told = events(database)
    assert [(event.action, event.subject, event.actor) for event in told] == [
        ("user.added", "ada", "test"),
        ("user.disabled", "ada", "test"),
        ("user.enabled", "ada", "test"),
        ("user.password_changed", "ada", "test"),
    ]
    assert "password" not in "".join(event.detail for event in told)


@pytest.mark.parametrize("change", ["disable", "enable"])
def test_nobody_is_named_where_there_is_nobody(database: Database, change: str) -> None:
    with pytest.raises(NotFound, match="users list"):
        getattr(users_of(database), change)("nobody")
    assert events(database) == []


def test_the_last_account_that_is_taken_away_opens_nothing(database: Database) -> None:
    with database.read() as session:
        assert not users.anybody(session)
    users_of(database).add("ada", Role.RADIOLOGIST, PASSWORD)
    users_of(database).disable("ada")
    with database.read() as session:
        assert users.anybody(session)
