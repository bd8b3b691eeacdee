"""Guessing passwords becomes slow, survives a restart, and passes; waits are set back by hand, no clock is raced."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.support.accounts import PASSWORD, events, logins_of, users_of
from worker.accounts import passwords, throttle
from worker.accounts.permissions import Role
from worker.database import Database, LoginFailure, utc_now
from worker.errors import LoginRefused, TooManyLogins

WRONG = "wrong"


@pytest.fixture(autouse=True)
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Passwords that cost nothing; gives what was looked at."""
    given_passwords: list[str] = []

    def verify(known: str | None, given: str) -> bool:
        given_passwords.append(given)
        return known is not None and given == PASSWORD

    monkeypatch.setattr(passwords, "verify", verify)
    monkeypatch.setattr(passwords, "is_dated", lambda known: False)
    return given_passwords


@pytest.fixture
def ada(database: Database) -> None:
    users_of(database).add("ada", Role.RADIOLOGIST, PASSWORD)


def guess(database: Database, name: str = "ada", *, password: str = WRONG, address: str = "192.0.2.1") -> str:
    try:
        logins_of(database).by_password(name, password, address=address)
    except LoginRefused:
        return "refused"
    except TooManyLogins:
        return "wait"
    return "in"


def let_the_wait_pass(database: Database) -> None:
    with database.write() as session:
        session.execute(sa.update(LoginFailure).values(blocked_until=utc_now() - timedelta(seconds=1)))


def waits(database: Database) -> dict[str, float]:
    with database.read() as session:
        rows = session.exec(select(LoginFailure)).all()
    return {
        row.key.partition(" ")[0]: (row.blocked_until - row.last_at).total_seconds() if row.blocked_until else 0
        for row in rows
    }


def test_after_five_wrong_ones_even_the_right_one_waits_and_is_not_looked_at(
    database: Database, ada: None, looked_at: list[str]
) -> None:
    assert [guess(database) for _ in range(7)] == ["refused"] * 5 + ["wait"] * 2
    assert guess(database, password=PASSWORD) == "wait"
    assert looked_at == [WRONG] * 5
    assert guess(database, name="ADA ", password=PASSWORD) == "wait"
    let_the_wait_pass(database)
    assert guess(database, password=PASSWORD) == "in"
    assert [guess(database) for _ in range(5)] == ["refused"] * 5, "a login forgives what went before"


def test_an_account_that_is_not_there_waits_just_so(database: Database) -> None:
    assert [guess(database, name="nobody") for _ in range(6)] == ["refused"] * 5 + ["wait"]


def test_the_wait_doubles_and_has_an_end(database: Database, ada: None) -> None:
    seen = []
    for _ in range(18):
        guess(database)
        seen.append(waits(database)["account"])
        let_the_wait_pass(database)
    assert seen[4:8] == [2, 4, 8, 16]
    assert max(seen) == 900, "a quarter of an hour, never for ever"
    assert guess(database, password=PASSWORD) == "in"


def test_a_restart_forgives_nothing(database: Database, ada: None) -> None:
    for _ in range(5):
        guess(database)
    again = Database(database.url.render_as_string(hide_password=False))
    assert guess(again, password=PASSWORD) == "wait"
    again.dispose()


def test_an_address_that_tries_many_accounts_waits(database: Database, ada: None) -> None:
    tried = [guess(database, name=f"user{number}") for number in range(25)]
    assert tried == ["refused"] * 20 + ["wait"] * 5
    assert guess(database, password=PASSWORD) == "wait"
    assert guess(database, password=PASSWORD, address="198.51.100.7") == "in"


def test_one_who_owns_an_account_cannot_have_the_address_forgiven(database: Database, ada: None) -> None:
    outcomes = []
    for number in range(20):
        outcomes.append(guess(database, name=f"user{number}"))
        outcomes.append(guess(database, password=PASSWORD))
    assert "wait" in outcomes[-2:]


def test_addresses_of_one_ipv6_subscriber_are_one(database: Database) -> None:
    tried = [guess(database, name=f"user{number}", address=f"2001:db8:0:1::{number}") for number in range(21)]
    assert tried[-1] == "wait"
    assert guess(database, name="other", address="2001:db8:0:2::1") == "refused"
    assert guess(database, name="more", address="no address") == "refused"


def test_what_is_old_is_forgotten(database: Database, ada: None) -> None:
    for _ in range(5):
        guess(database)
    with database.write() as session:
        session.execute(sa.update(LoginFailure).values(last_at=utc_now() - throttle.FORGOTTEN_AFTER * 2))
    assert guess(database, password=PASSWORD) == "in"


def test_enabling_lets_in_at_once(database: Database, ada: None) -> None:
    for _ in range(5):
        guess(database)
    users_of(database).enable("ada")
    assert guess(database, password=PASSWORD) == "in"


def test_many_at_once_are_counted(database: Database, ada: None, looked_at: list[str]) -> None:
    threads = [threading.Thread(target=guess, args=(database,)) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looked_at) == 5, "each is counted before the password is looked at"


def test_no_name_is_kept_and_the_message_says_how_long(database: Database) -> None:
    for _ in range(5):
        guess(database, name="typed-password")
    with database.read() as session:
        assert "typed" not in repr(session.exec(select(LoginFailure)).all())
    with pytest.raises(TooManyLogins, match=r"Try again in [12] second") as slow:
        logins_of(database).by_password("typed-password", "wrong", address="192.0.2.1")
    assert 1 <= slow.value.seconds <= 2
    assert len(events(database, "login.failed")) == 5
