"""Sessions: a digest in the database, over when idle, when old, when ended; the role is the account's of the moment."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.support.accounts import LIFETIME, PASSWORD, events, logins_of, users_of
from worker.accounts import sessions
from worker.accounts.permissions import Role
from worker.accounts.sessions import Lifetime
from worker.database import Account, Database, LoginSession, utc_now


@pytest.fixture
def token(database: Database) -> str:
    users_of(database).add("ada", Role.RADIOLOGIST, PASSWORD)
    return logins_of(database).by_password("ada", PASSWORD, address="192.0.2.1")


def find(database: Database, token: str, *, active: bool = True, lifetime: Lifetime = LIFETIME) -> str | None:
    found = sessions.find(database, token, lifetime, active=active)
    return found and found.name


def set_back(database: Database, column: str, by: timedelta) -> None:
    with database.write() as session:
        session.execute(sa.update(LoginSession).values({column: utc_now() - by}))


def test_the_token_itself_is_not_kept(database: Database, token: str) -> None:
    with database.read() as session:
        (row,) = session.exec(select(LoginSession)).all()
    assert token not in repr(row)
    assert find(database, token) == "ada"
    assert find(database, row.token_sha256) is None, "who reads the table has no session"
    assert find(database, "") is None


def test_idle(database: Database, token: str) -> None:
    set_back(database, "seen_at", timedelta(minutes=59))
    assert find(database, token, active=False) == "ada"
    set_back(database, "seen_at", timedelta(minutes=61))
    assert find(database, token) is None


def test_a_page_that_refreshes_itself_keeps_nobody_logged_in(database: Database, token: str) -> None:
    set_back(database, "seen_at", timedelta(minutes=50))
    assert find(database, token, active=False) == "ada"
    with database.read() as session:
        assert utc_now() - session.exec(select(LoginSession.seen_at)).one() > timedelta(minutes=49)
    assert find(database, token, active=True) == "ada"
    with database.read() as session:
        assert utc_now() - session.exec(select(LoginSession.seen_at)).one() < timedelta(minutes=1)


def test_absolute(database: Database, token: str) -> None:
    set_back(database, "expires_at", timedelta(seconds=1))
    assert find(database, token) is None


def test_a_lifetime_that_was_made_shorter_holds_at_once(database: Database, token: str) -> None:
    set_back(database, "created_at", timedelta(hours=2))
    assert find(database, token) == "ada"
    assert find(database, token, lifetime=Lifetime(LIFETIME.idle, timedelta(hours=1))) is None


def test_a_new_role_holds_at_once(database: Database, token: str) -> None:
    with database.write() as session:
        session.execute(sa.update(Account).values(role=Role.OPS))
    found = sessions.find(database, token, LIFETIME, active=True)
    assert found is not None
    assert found.role is Role.OPS


def test_logout(database: Database, token: str) -> None:
    logins_of(database).out(token, address="192.0.2.1")
    assert find(database, token) is None
    logins_of(database).out(token, address="192.0.2.1")
    assert [(event.action, event.actor) for event in events(database, "logout")] == [("logout", "ada")]


def test_what_is_over_is_cleared_away(database: Database, token: str) -> None:
    set_back(database, "expires_at", timedelta(days=1))
    logins_of(database).by_password("ada", PASSWORD, address="192.0.2.1")
    with database.read() as session:
        assert len(session.exec(select(LoginSession)).all()) == 1
