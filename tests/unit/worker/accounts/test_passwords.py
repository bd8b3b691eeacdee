"""Passwords: argon2id, the same work whoever asks, old parameters renewed, and what may be used."""

import pytest
from argon2 import PasswordHasher

from worker.accounts import passwords
from worker.errors import AccountError


@pytest.fixture(autouse=True)
def _cheap() -> None:
    """Here a password costs what it costs."""


def test_a_password_is_kept_as_argon2id_and_nothing_else_fits() -> None:
    kept = passwords.hash_password("correct horse battery")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "correct" not in kept
    assert passwords.verify(kept, "correct horse battery")
    assert not passwords.verify(kept, "correct horse batterx")
    assert passwords.hash_password("correct horse battery") != kept, "each has a salt of its own"


@pytest.mark.parametrize("known", [None, ""])
def test_an_unknown_user_takes_the_same_work_and_nothing_fits(known, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, kept, given: asked.append(kept) or real(self, kept, given)
    )
    assert not passwords.verify(known, "anything at all")
    (kept,) = asked
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$"), "a whole verification, with today's parameters"


def test_a_hash_that_is_damaged_fits_nothing() -> None:
    assert not passwords.verify("not a hash", "anything at all")


def test_a_hash_of_other_parameters_is_dated() -> None:
    assert passwords.is_dated(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))
    assert not passwords.is_dated(passwords.hash_password("correct horse battery"))


def test_how_a_keyboard_composes_a_letter_does_not_matter() -> None:
    assert passwords.verify(passwords.hash_password("caf\u00e9 con leche"), "cafe\u0301 con leche")


@pytest.mark.parametrize("bad", ["", "short", "x" * 257, "aaaaaaaaaaaaaaaa", "adalovelace1"])
def test_what_may_not_be_used_is_said_without_quoting_it(bad: str) -> None:
    with pytest.raises(AccountError) as refused:
        passwords.checked(bad, name="adalovelace")
    assert not bad or bad not in str(refused.value)


def test_what_may_be_used() -> None:
    for good in ("correct horse battery", "x1y2z3x1y2z3", passwords.generate()):
        assert passwords.checked(good, name="adalovelace") == good
    assert len({passwords.generate() for _ in range(10)}) == 10
