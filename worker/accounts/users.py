"""Accounts of people: made, listed, disabled, their passwords changed, and logged in to."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from worker.accounts import passwords, sessions, throttle
from worker.accounts.permissions import Role
from worker.database import Account, ApiToken, Database, utc_now
from worker.errors import AccountError, NotFound

Record = Callable[..., object]
"""`worker.audit.log.record`: `record(session, action, subject, detail, actor=...)`, in the transaction it tells of."""

NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


@dataclass(frozen=True)
class User:
    """An account as it is shown: nothing that opens it."""

    name: str
    role: str
    kind: str
    enabled: bool
    created_at: datetime
    last_login_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        moments = {"created_at": self.created_at, "last_login_at": self.last_login_at}
        return asdict(self) | {name: at and at.isoformat(timespec="seconds") for name, at in moments.items()}


class Users:
    """The accounts of a database.

    Parameters
    ----------
    record
        Takes the audit event of what is done.
    actor
        Who does it, for the audit trail.
    """

    def __init__(self, database: Database, record: Record, *, actor: str) -> None:
        self.database = database
        self._record = record
        self._actor = actor

    def add(self, name: str, role: Role, password: str) -> User:
        """Make an account.

        Raises
        ------
        AccountError
            The name is taken or is none, or the password may not be used.
        """
        name = checked_name(name)
        password_hash = passwords.hash_password(passwords.checked(password, name=name))
        with self.database.write() as session:
            if find(session, name) is not None:
                raise AccountError(f"there is an account {name} already; `firstread users list` shows them")
            account = Account(name=name, role=role, password_hash=password_hash, created_at=utc_now())
            session.add(account)
            self._tell(session, "user.added", name, {"role": role})
        return _shown(account)

    def listed(self) -> list[User]:
        """Return all accounts by name."""
        with self.database.read() as session:
            return [_shown(account) for account in session.exec(select(Account).order_by(col(Account.name)))]

    def disable(self, name: str) -> User:
        """Let nobody in with an account any more, and end its sessions."""
        with self.database.write() as session:
            account = _known(session, name)
            account.disabled_at = account.disabled_at or utc_now()
            ended = sessions.end_all(session, account.id or 0)
            self._tell(session, "user.disabled", account.name, {"sessions_ended": ended})
        return _shown(account)

    def enable(self, name: str) -> User:
        """Let an account in again, and forget the logins with it that failed."""
        with self.database.write() as session:
            account = _known(session, name)
            account.disabled_at = None
            throttle.forgive(session, account.name)
            self._tell(session, "user.enabled", account.name, {})
        return _shown(account)

    def change_password(self, name: str, password: str) -> User:
        """Give an account a new password, and end its sessions.

        Raises
        ------
        AccountError
            The password may not be used, or another system keeps the account's password.
        NotFound
            There is no such account.
        """
        password_hash = passwords.hash_password(passwords.checked(password, name=name.lower()))
        with self.database.write() as session:
            account = _known(session, name)
            if account.oidc_subject:
                raise AccountError(f"{account.name} logs in through {account.oidc_issuer}: its password is kept there")
            account.password_hash = password_hash
            throttle.forgive(session, account.name)
            ended = sessions.end_all(session, account.id or 0)
            self._tell(session, "user.password_changed", account.name, {"sessions_ended": ended})
        return _shown(account)

    def _tell(self, session: Session, action: str, name: str, detail: Mapping[str, Any]) -> None:
        self._record(session, action, name, detail, actor=self._actor)


def anybody(session: Session) -> bool:
    """Say whether there is, or ever was, an account or a token.

    Disabled and revoked ones count: the last one that is taken away must not open the door for everybody.
    """
    return any(session.exec(select(table).limit(1)).first() is not None for table in (Account.id, ApiToken.id))


def find(session: Session, name: str) -> Account | None:
    """Return the account of a name, however it is written; None where there is none."""
    return session.exec(select(Account).where(Account.name == name.strip().lower())).one_or_none()


def checked_name(name: str) -> str:
    """Return a name as it is kept.

    Raises
    ------
    AccountError
        When it is none.
    """
    kept = name.strip().lower()
    if not NAME.fullmatch(kept):
        raise AccountError(
            f"{name!r} is no name: 1 to 64 letters, digits and . _ @ + - (no accents), a letter or digit first"
        )
    return kept


def _known(session: Session, name: str) -> Account:
    account = find(session, name)
    if account is None:
        raise NotFound(f"there is no account {name!r}; `firstread users list` shows them")
    session.add(account)
    return account


def _shown(account: Account) -> User:
    return User(
        account.name,
        account.role,
        "oidc" if account.oidc_subject else "password",
        account.disabled_at is None,
        account.created_at,
        account.last_login_at,
    )
