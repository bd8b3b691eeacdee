"""A worklist with its door: accounts, whoever logs in, and what was written down of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from sqlmodel import col, select

from tests.support.browser import served
from tests.support.worklist_rows import draw_previews, fill
from worker import schema
from worker.accounts import passwords
from worker.accounts.logins import Logins
from worker.accounts.permissions import Role
from worker.accounts.sessions import Lifetime
from worker.accounts.tokens import Tokens
from worker.accounts.users import Users
from worker.audit.log import record
from worker.database import AuditEvent, Database
from worker.worklist.app import Access, create_app

PASSWORD = "correct horse battery staple"
LIFETIME = Lifetime(timedelta(hours=1), timedelta(hours=12))


def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a password cost 8 KiB instead of 64 MiB: what is tested elsewhere need not be paid for everywhere."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", hasher)
    monkeypatch.setattr(passwords, "_NOBODY", hasher.hash("nobody"))


def events(database: Database, *actions: str) -> list[AuditEvent]:
    """The audit events, or those of some actions, oldest first."""
    with database.read() as session:
        found = session.exec(select(AuditEvent).order_by(col(AuditEvent.id))).all()
    return [event for event in found if not actions or event.action in actions]


def users_of(database: Database) -> Users:
    """The accounts, as the command line has them."""
    return Users(database, record, actor="test")


def tokens_of(database: Database) -> Tokens:
    """The tokens, as the command line has them."""
    return Tokens(database, record, actor="test")


def logins_of(database: Database, lifetime: Lifetime = LIFETIME) -> Logins:
    """The ways in."""
    return Logins(database, record, lifetime)


class Site:
    """A worklist that is served, and its database."""

    def __init__(self, database: Database, address: str) -> None:
        self.database = database
        self.address = address

    def client(self, **options: Any) -> httpx.Client:
        """A browser without scripts, nobody logged in."""
        return httpx.Client(base_url=self.address, **options)

    @contextmanager
    def logged_in(self, role: Role, **options: Any) -> Iterator[httpx.Client]:
        """The same, logged in with an account of a role, which is made where it is missing."""
        if role not in {user.role for user in users_of(self.database).listed()}:
            users_of(self.database).add(f"the-{role}", role, PASSWORD)
        with self.client(**options) as client:
            assert log_in(client, f"the-{role}", PASSWORD).status_code == 303
            yield client


def form_token(page: str) -> str:
    """The token of the first form of a page."""
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found, page
    return found[1]


def log_in(client: httpx.Client, name: str, password: str, **fields: str) -> httpx.Response:
    """Fill in the login page and send it."""
    token = form_token(client.get("/login").text)
    return client.post("/login", data={"name": name, "password": password, "form_token": token} | fields)


@contextmanager
def site(directory: Path, url: str = "", **options: Any) -> Iterator[Site]:
    """Serve a worklist with a study of every state; `options` are those of `Access`, `trusted_proxies` too."""
    database = Database(url or f"sqlite:///{directory / 'firstread.db'}")
    schema.migrate(database)
    fill(database)
    draw_previews(directory / "previews", range(5, 9))
    proxies = options.pop("trusted_proxies", ())
    access = Access(logins_of(database, options.pop("lifetime", LIFETIME)), record, **({"loopback": True} | options))
    app = create_app(
        database,
        previews_dir=directory / "previews",
        readiness=dict,
        version="1",
        access=access,
        trusted_proxies=proxies,
    )
    try:
        with served(app) as address:
            yield Site(database, address)
    finally:
        database.dispose()
