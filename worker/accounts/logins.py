"""Logging in: with a password, through an OpenID Connect provider, with a one-time link. Each begins a new session."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker import metrics
from worker.accounts import passwords, sessions, throttle
from worker.accounts.permissions import Role
from worker.accounts.secrets import digest, new_secret
from worker.accounts.sessions import LINK_USER, Lifetime
from worker.accounts.users import Record, checked_name, find
from worker.database import Account, Database, LoginLink, utc_now
from worker.errors import AccountError, LoginRefused, TooManyLogins
from worker.logs import get_logger

log = get_logger(__name__)

REFUSED = "The name or the password is wrong, or the account is disabled."
"""One message for every reason."""
LINK_SPENT = (
    "This link has been used or is too old. `firstread users link`, run on the machine where firstread runs, prints a "
    "new one."
)
LINK_LIFETIME = timedelta(minutes=15)
NOBODY = "nobody"
"""The actor of what somebody did who is not logged in."""


@dataclass(frozen=True)
class Person:
    """Somebody as an OpenID Connect provider tells of them."""

    issuer: str
    subject: str
    name: str
    role: Role


class Logins:
    """The ways into a database's worklist.

    Parameters
    ----------
    record
        Takes the audit event of each login, let in or refused.
    """

    def __init__(self, database: Database, record: Record, lifetime: Lifetime) -> None:
        self.database = database
        self.lifetime = lifetime
        self._record = record

    def by_password(self, name: str, password: str, *, address: str) -> str:
        """Log in and return the token of the new session.

        Raises
        ------
        LoginRefused
            Whatever the reason, in the same words and after the same work.
        TooManyLogins
            Nothing was looked at; says how long to wait.
        """
        with self.database.write() as session:
            wait = throttle.wait_for(session, name, address)
        if wait is not None:
            metrics.logins.labels(how="password", outcome="throttled").inc()
            raise TooManyLogins(max(math.ceil(wait.total_seconds()), 1))
        with self.database.read() as session:
            known = find(session, name)
        fits = passwords.verify(known.password_hash if known else None, password)
        if known is None:
            raise self._refused("password", "unknown account", "", address)
        if not fits:
            raise self._refused("password", "wrong password", known.name, address)
        renewed = passwords.hash_password(password) if passwords.is_dated(known.password_hash) else known.password_hash
        with self.database.write() as session:
            account = session.exec(select(Account).where(Account.id == known.id).with_for_update()).one()
            still = account.disabled_at is None and account.password_hash == known.password_hash
            if still:
                account.password_hash = renewed
                throttle.succeeded(session, name, address)
                return self._let_in(session, account, "password", address)
        raise self._refused("password", "disabled", known.name, address)

    def by_provider(self, person: Person, *, address: str) -> str:
        """Log in whom a provider vouches for, with an account that is made at the first time; return the token.

        The person is the provider's subject, not a name: two of one name are two, and an account of ours is never
        taken over by somebody who is called the same there.

        Raises
        ------
        LoginRefused
            The account is disabled, or its name is another's.
        """
        try:
            name = checked_name(person.name)
        except AccountError:
            raise self._refused("oidc", "the provider's name for them is none here", "", address) from None
        why = "disabled"
        with self.database.write() as session:
            account = session.exec(
                select(Account)
                .where(Account.oidc_issuer == person.issuer, Account.oidc_subject == person.subject)
                .with_for_update()
            ).one_or_none()
            if account is None:
                if find(session, name) is None:
                    account = Account(
                        name=name,
                        role=person.role,
                        oidc_issuer=person.issuer,
                        oidc_subject=person.subject,
                        created_at=utc_now(),
                    )
                    session.add(account)
                    session.flush()
                    self._record(session, "user.added", name, {"role": person.role, "by": person.issuer}, actor=name)
                else:
                    why = "another account has this name"
            if account is not None and account.disabled_at is None:
                account.role = person.role
                return self._let_in(session, account, "oidc", address)
        raise self._refused("oidc", why, name, address)

    def new_link(self, *, actor: str) -> str:
        """Make a one-time link and return its token: it is kept nowhere, so show it now."""
        token, now = new_secret(), utc_now()
        with self.database.write() as session:
            session.execute(sa.delete(LoginLink).where(col(LoginLink.expires_at) < now))
            session.add(LoginLink(token_sha256=digest(token), created_at=now, expires_at=now + LINK_LIFETIME))
            minutes = LINK_LIFETIME // timedelta(minutes=1)
            self._record(session, "login.link_made", LINK_USER, {"valid_minutes": minutes}, actor=actor)
        return token

    def by_link(self, token: str, *, address: str) -> str:
        """Log in with a one-time link, which is then spent; return the token of the session.

        Raises
        ------
        LoginRefused
            It was used before, is too old, or never was.
        """
        now = utc_now()
        with self.database.write() as session:
            spent = session.scalars(
                sa.update(LoginLink)
                .where(
                    col(LoginLink.token_sha256) == digest(token),
                    col(LoginLink.used_at).is_(None),
                    col(LoginLink.expires_at) > now,
                )
                .values(used_at=now)
                .returning(col(LoginLink.token_sha256))
            ).all()
            if spent:
                return self._let_in(session, None, "link", address)
        raise self._refused("link", "spent, too old or unknown", "", address, LINK_SPENT)

    def refused(self, how: str, why: str, *, address: str, says: str = REFUSED) -> LoginRefused:
        """Tell of a login that was refused before it came to an account, and return the error to raise."""
        return self._refused(how, why, "", address, says)

    def out(self, token: str, *, address: str) -> None:
        """End a session; nothing happens where there is none."""
        with self.database.write() as session:
            if (name := sessions.end(session, token)) is not None:
                self._record(session, "logout", name, {"from": address}, actor=name)

    def _let_in(self, session: Session, account: Account | None, how: str, address: str) -> str:
        name = account.name if account is not None else LINK_USER
        if account is not None:
            account.last_login_at = utc_now()
            session.add(account)
        token = sessions.start(session, account.id if account is not None else None, self.lifetime)
        self._record(session, "login.succeeded", name, {"from": address, "how": how}, actor=name)
        metrics.logins.labels(how=how, outcome="succeeded").inc()
        return token

    def _refused(self, how: str, why: str, name: str, address: str, says: str = REFUSED) -> LoginRefused:
        # What was typed as the name of no account may be a password: it is written down nowhere.
        detail: Mapping[str, Any] = {"from": address, "how": how, "why": why}
        with self.database.write() as session:
            self._record(session, "login.failed", name or "unknown", detail, actor=NOBODY)
        log.warning("login_failed", address=address, how=how, why=why)
        metrics.logins.labels(how=how, outcome="refused").inc()
        return LoginRefused(says)
