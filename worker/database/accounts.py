"""Who may look: accounts, their sessions, one-time login links, tokens of machines, logins that failed.

Of every secret only a digest is kept: argon2 of a password, SHA-256 of what is random anyway.
"""

from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from worker.database.columns import moment, text


class Account(SQLModel, table=True):
    """A person who may log in; never deleted, so that a name in the audit trail stays one person's."""

    __tablename__: ClassVar[str] = "account"
    __table_args__: ClassVar[Any] = (
        # One person of one provider; the accounts that are ours alone have neither.
        sa.Index(
            "uq_account_oidc_subject",
            "oidc_issuer",
            "oidc_subject",
            unique=True,
            postgresql_where=sa.text("oidc_subject <> ''"),
            sqlite_where=sa.text("oidc_subject <> ''"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    """In lower case: `Ada` and `ada` are one."""
    role: str
    password_hash: str = text()
    """argon2id in the PHC string format; empty: no password opens it."""
    oidc_issuer: str = text()
    oidc_subject: str = text()
    created_at: datetime = moment()
    disabled_at: datetime | None = moment(default=None)
    last_login_at: datetime | None = moment(default=None)


class LoginSession(SQLModel, table=True):
    """Somebody who is logged in: a row, so that it can be ended from here at any moment."""

    __tablename__: ClassVar[str] = "login_session"
    token_sha256: str = Field(primary_key=True)
    account_id: int | None = Field(default=None, foreign_key="account.id", index=True)
    """None: it came from a one-time link."""
    created_at: datetime = moment()
    seen_at: datetime = moment()
    """When a person last did something; a page that refreshes itself is nobody doing something."""
    expires_at: datetime = moment(index=True)


class LoginLink(SQLModel, table=True):
    """A link that opens the worklist once."""

    __tablename__: ClassVar[str] = "login_link"
    token_sha256: str = Field(primary_key=True)
    created_at: datetime = moment()
    expires_at: datetime = moment()
    used_at: datetime | None = moment(default=None)


class ApiToken(SQLModel, table=True):
    """A machine that may ask the JSON interface; never deleted, as an account is not."""

    __tablename__: ClassVar[str] = "api_token"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    role: str
    token_sha256: str = Field(unique=True)
    created_at: datetime = moment()
    expires_at: datetime | None = moment(default=None)
    revoked_at: datetime | None = moment(default=None)


class LoginFailure(SQLModel, table=True):
    """How often a login failed of late, by account and by address; kept here so that a restart forgives nothing."""

    __tablename__: ClassVar[str] = "login_failure"
    key: str = Field(primary_key=True)
    """`account SHA-256 of the name` (what is typed there may be a password) or `address ADDRESS`."""
    count: int = Field(default=0)
    last_at: datetime = moment(index=True)
    blocked_until: datetime | None = moment(default=None)
