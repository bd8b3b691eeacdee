"""Sessions of people who are logged in: kept here, known to the browser by a random token of which we keep the digest.

A session ends when nobody has done anything for a while, when it is old, at logout, and when its account is disabled or
has a new password. Its role is its account's of this moment, not of the login.
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.accounts.permissions import Role
from worker.accounts.secrets import digest, new_secret
from worker.database import Account, Database, LoginSession, utc_now

LINK_USER = "one-time link"
"""Who somebody is who came by a link that this machine printed: no account, every permission."""
SEEN_STEP = timedelta(seconds=60)
"""`seen_at` is written at most so often: reading a page is no reason for a write to the database each time."""


@dataclass(frozen=True)
class Lifetime:
    """How long a session lasts."""

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True)
class LoggedIn:
    """Who a session is of."""

    name: str
    role: Role


def start(session: Session, account_id: int | None, lifetime: Lifetime) -> str:
    """Begin a session and return its token; those that are over are cleared away."""
    now = utc_now()
    session.execute(sa.delete(LoginSession).where(col(LoginSession.expires_at) < now))
    token = new_secret()
    session.add(
        LoginSession(
            token_sha256=digest(token),
            account_id=account_id,
            created_at=now,
            seen_at=now,
            expires_at=now + lifetime.absolute,
        )
    )
    return token


def find(database: Database, token: str, lifetime: Lifetime, *, active: bool) -> LoggedIn | None:
    """Return who a token is of, or None where it opens nothing (any more).

    Parameters
    ----------
    active
        Whether somebody did something, so that the idle time begins anew.
    """
    now = utc_now()
    with database.read() as session:
        found = session.exec(
            select(LoginSession, Account)
            .join(Account, isouter=True)
            .where(
                LoginSession.token_sha256 == digest(token),
                col(LoginSession.expires_at) > now,
                col(LoginSession.seen_at) > now - lifetime.idle,
                # A lifetime that was made shorter holds for sessions that are under way too.
                col(LoginSession.created_at) > now - lifetime.absolute,
            )
        ).first()
    if found is None:
        return None
    row, account = found
    if account is not None and account.disabled_at is not None:
        return None
    if active and now - row.seen_at > min(SEEN_STEP, lifetime.idle / 4):
        with database.write() as session:
            session.execute(
                sa.update(LoginSession).where(col(LoginSession.token_sha256) == row.token_sha256).values(seen_at=now)
            )
    return LoggedIn(account.name, Role(account.role)) if account is not None else LoggedIn(LINK_USER, Role.ADMIN)


def end(session: Session, token: str) -> str | None:
    """End the session of a token; return whose it was, None where there was none."""
    row = session.get(LoginSession, digest(token), with_for_update=True)
    if row is None:
        return None
    session.delete(row)
    account = session.get(Account, row.account_id) if row.account_id is not None else None
    return account.name if account is not None else LINK_USER


def end_all(session: Session, account_id: int) -> int:
    """End every session of an account; return how many."""
    ended = sa.delete(LoginSession).where(col(LoginSession.account_id) == account_id)
    return len(session.scalars(ended.returning(col(LoginSession.token_sha256))).all())
