"""Slows down who guesses passwords: by account, and by address.

A few wrong ones cost nothing; from then on each doubles the wait, up to a quarter of an hour, and never for ever: a
stranger who guesses keeps the owner of an account out for minutes, not for good (`firstread users enable` lets in at
once). An attempt is counted before the password is looked at, so that a thousand at once are a thousand; while a wait
lasts nothing is looked at and nothing is counted. All of it is in the database: a restart forgives nothing.
"""

import ipaddress
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.accounts.secrets import digest
from worker.database import LoginFailure, insert_into, utc_now

FREE_BY_ACCOUNT = 5
FREE_BY_ADDRESS = 20
"""Attempts without a wait; a whole ward may stand behind one address."""
FIRST_WAIT = timedelta(seconds=2)
LONGEST_WAIT = timedelta(minutes=15)
FORGOTTEN_AFTER = timedelta(hours=1)
"""Failures are forgotten when no other came for so long."""


def wait_for(session: Session, name: str, address: str) -> timedelta | None:
    """Count an attempt, or say how long to wait before there may be one.

    Call it in a transaction of its own, committed before the password is looked at.
    """
    now = utc_now()
    session.execute(sa.delete(LoginFailure).where(col(LoginFailure.last_at) < now - FORGOTTEN_AFTER))
    rows = [_locked(session, key, now) for key in sorted((_account_key(name), _address_key(address)))]
    if waits := [row.blocked_until - now for row in rows if row.blocked_until is not None and row.blocked_until > now]:
        return max(waits)
    for row in rows:
        _count(session, row, now)
    return None


def address_wait(session: Session, address: str) -> timedelta | None:
    """Say how long nothing is looked at that comes from an address, and count nothing: a token is sent each time."""
    row, now = session.get(LoginFailure, _address_key(address)), utc_now()
    return row.blocked_until - now if row and row.blocked_until and row.blocked_until > now else None


def address_failed(session: Session, address: str) -> None:
    """Count a wrong token against the address that it came from."""
    now = utc_now()
    session.execute(sa.delete(LoginFailure).where(col(LoginFailure.last_at) < now - FORGOTTEN_AFTER))
    _count(session, _locked(session, _address_key(address), now), now)


def succeeded(session: Session, name: str, address: str) -> None:
    """Take back what `wait_for` counted: the attempt was a login.

    The account's failures are forgotten. Of the address's only this attempt: whoever owns one account must not have
    the address forgiven by logging in between two guesses at another.
    """
    forgive(session, name)
    row = _locked(session, _address_key(address), utc_now())
    row.count = max(row.count - 1, 0)
    if row.count < FREE_BY_ADDRESS:
        row.blocked_until = None
    session.add(row)


def forgive(session: Session, name: str) -> None:
    """Forget the failed logins of an account."""
    session.execute(sa.delete(LoginFailure).where(col(LoginFailure.key) == _account_key(name)))


def _count(session: Session, row: LoginFailure, now: datetime) -> None:
    row.count += 1
    row.last_at = now
    free = FREE_BY_ACCOUNT if row.key.startswith("account ") else FREE_BY_ADDRESS
    if row.count >= free:
        row.blocked_until = now + min(FIRST_WAIT * 2 ** min(row.count - free, 20), LONGEST_WAIT)
    session.add(row)


def _locked(session: Session, key: str, now: datetime) -> LoginFailure:
    session.execute(insert_into(session, LoginFailure).values(key=key, count=0, last_at=now).on_conflict_do_nothing())
    return session.exec(select(LoginFailure).where(LoginFailure.key == key).with_for_update()).one()


def _account_key(name: str) -> str:
    return f"account {digest(name.strip().lower())}"


def _address_key(address: str) -> str:
    """Return the key of an address; of IPv6 the network of 64 bits, which is one subscriber's."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return "address unknown"
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return f"address {known.ipv4_mapped}"
        return f"address {ipaddress.ip_network((known, 64), strict=False)}"
    return f"address {known}"
