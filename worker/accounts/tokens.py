"""Tokens of machines: random, shown once, kept as a digest, with a role and an end."""

import hmac
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from worker.accounts.permissions import Role
from worker.accounts.secrets import digest, new_secret
from worker.accounts.users import Record, checked_name
from worker.database import ApiToken, Database, utc_now
from worker.errors import AccountError, NotFound

PREFIX = "firstread_"
"""By which a scanner for secrets knows one that lies about."""


@dataclass(frozen=True)
class Token:
    """A token as it is shown: not the secret."""

    name: str
    role: str
    state: str
    created_at: datetime
    expires_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        moments = {"created_at": self.created_at, "expires_at": self.expires_at}
        return asdict(self) | {name: at and at.isoformat(timespec="seconds") for name, at in moments.items()}


class Tokens:
    """The tokens of a database; `record` and `actor` as for `Users`."""

    def __init__(self, database: Database, record: Record, *, actor: str) -> None:
        self.database = database
        self._record = record
        self._actor = actor

    def add(self, name: str, role: Role, valid: timedelta | None) -> tuple[Token, str]:
        """Make a token; return it and its secret, which is kept nowhere.

        Raises
        ------
        AccountError
            The name is taken or is none.
        """
        name, secret, now = checked_name(name), PREFIX + new_secret(), utc_now()
        with self.database.write() as session:
            if _find(session, name) is not None:
                raise AccountError(f"there is a token {name} already, or was; `firstread tokens list` shows them")
            token = ApiToken(
                name=name,
                role=role,
                token_sha256=digest(secret),
                created_at=now,
                expires_at=None if valid is None else now + valid,
            )
            session.add(token)
            until = token.expires_at.isoformat(timespec="seconds") if token.expires_at else None
            self._record(session, "token.added", name, {"role": role, "expires_at": until}, actor=self._actor)
        return _shown(token), secret

    def listed(self) -> list[Token]:
        """Return all tokens by name."""
        with self.database.read() as session:
            return [_shown(token) for token in session.exec(select(ApiToken).order_by(col(ApiToken.name)))]

    def revoke(self, name: str) -> Token:
        """Let nothing in with a token any more.

        Raises
        ------
        NotFound
            There is no such token.
        """
        with self.database.write() as session:
            token = _find(session, name)
            if token is None:
                raise NotFound(f"there is no token {name!r}; `firstread tokens list` shows them")
            token.revoked_at = token.revoked_at or utc_now()
            session.add(token)
            self._record(session, "token.revoked", token.name, {}, actor=self._actor)
        return _shown(token)


def holder(database: Database, secret: str) -> tuple[str, Role] | None:
    """Return the name and the role of a token, or None where it opens nothing (any more)."""
    with database.read() as session:
        token = session.exec(select(ApiToken).where(ApiToken.token_sha256 == digest(secret))).one_or_none()
    if token is None or _state(token) != "valid":
        return None
    return token.name, Role(token.role)


def same(secret: str, expected_sha256: str) -> bool:
    """Compare a secret with the digest of the expected one, in a time that tells nothing."""
    return hmac.compare_digest(digest(secret), expected_sha256)


def _find(session: Session, name: str) -> ApiToken | None:
    return session.exec(select(ApiToken).where(ApiToken.name == name.strip().lower())).one_or_none()


def _state(token: ApiToken) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= utc_now() else "valid"


def _shown(token: ApiToken) -> Token:
    return Token(token.name, token.role, _state(token), token.created_at, token.expires_at)
