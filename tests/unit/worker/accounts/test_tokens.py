"""Tokens of machines: shown once, kept as a digest, with a role and an end."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.support.accounts import events, tokens_of
from worker.accounts import tokens
from worker.accounts.permissions import Role
from worker.database import ApiToken, Database, utc_now
from worker.errors import AccountError, NotFound


def test_a_token_opens_until_it_is_revoked(database: Database) -> None:
    made, secret = tokens_of(database).add("RIS", Role.OPS, timedelta(days=1))
    assert (made.name, made.state) == ("ris", "valid")
    assert tokens.holder(database, secret) == ("ris", Role.OPS)
    for other in (secret + "x", "", secret.upper(), "firstread_"):
        assert tokens.holder(database, other) is None
    assert tokens_of(database).revoke("ris").state == "revoked"
    assert tokens.holder(database, secret) is None
    assert [event.action for event in events(database)] == ["token.added", "token.revoked"]
    with database.read() as session:
        kept = repr(session.exec(select(ApiToken)).all())
    assert secret not in kept + "".join(event.detail for event in events(database))


def test_a_token_ends(database: Database) -> None:
    _, secret = tokens_of(database).add("ris", Role.OPS, timedelta(days=1))
    _, forever = tokens_of(database).add("pacs", Role.OPS, None)
    with database.write() as session:
        session.execute(sa.update(ApiToken).where(ApiToken.name == "ris").values(expires_at=utc_now()))
    assert tokens.holder(database, secret) is None
    assert tokens.holder(database, forever) == ("pacs", Role.OPS)
    assert [token.state for token in tokens_of(database).listed()] == ["valid", "expired"]


def test_a_name_is_used_once(database: Database) -> None:
    tokens_of(database).add("ris", Role.OPS, None)
    tokens_of(database).revoke("ris")
    with pytest.raises(AccountError, match="already, or was"):
        tokens_of(database).add("ris", Role.ADMIN, None)
    with pytest.raises(NotFound, match="tokens list"):
        tokens_of(database).revoke("other")
