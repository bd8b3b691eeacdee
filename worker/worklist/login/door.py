"""Looks at every request before it is answered: who asks, may they, and is it written down.

Whoever is not let in by name is not let in: a page that nobody thought of here is closed, not open.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer

from worker import metrics
from worker.accounts import sessions, throttle, tokens
from worker.accounts.permissions import Permission, Role
from worker.accounts.secrets import digest
from worker.database import Database
from worker.errors import TooManyLogins
from worker.worklist.login.access import NOBODY_YET, Access, address_of
from worker.worklist.login.cookies import Cookie
from worker.worklist.login.looks import Looks
from worker.worklist.login.viewer import EVERYBODY, ON_THIS_MACHINE, Viewer

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"})
"""What tells nothing of any patient, for those who watch the service; a test looks for marked names in it."""
LOGIN_PATHS = re.compile(r"/login(/.*)?|/logout")
REFRESH = "live"
"""The element of a page that asks by itself (`HX-Trigger`): nobody did anything."""
SETTING = "FIRSTREAD_API_TOKEN"
"""The name of whoever sends the token of that setting."""

bearer = HTTPBearer(auto_error=False, description="FIRSTREAD_API_TOKEN, or a token that `firstread tokens add` made")
cookie = APIKeyCookie(
    name="firstread-session", auto_error=False, description="The session of who is logged in; set by the login page"
)


class NotLoggedInError(Exception):
    """Nobody knows who asks: a person is sent to the login page, a machine told what to send."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotAllowedError(Exception):
    """Who asks is known, and may not see this."""

    def __init__(self, viewer: Viewer, permission: Permission) -> None:
        super().__init__(f"The role {viewer.role} may not see this ({permission}).")
        self.viewer = viewer


class Door:
    """The door of one application.

    Parameters
    ----------
    access
        Who may come in; None: everybody, and nothing is written down (an application that is embedded or tested).
    """

    def __init__(self, database: Database, access: Access | None) -> None:
        self._database = database
        self.access = access
        self._looks = Looks(database, access.record) if access is not None else None
        # A provider sends people back to us from its own site: a strict cookie would not come with them.
        lax = access is not None and access.provider is not None
        self.session_cookie = Cookie("session", "lax" if lax else "strict")

    def look_at(self, request: Request) -> None:
        """Find out who asks, before every route of the application.

        Raises
        ------
        NotLoggedInError
            Nobody is let in like this.
        """
        path = request.url.path
        if path in OPEN_PATHS or LOGIN_PATHS.fullmatch(path):
            return
        viewer = self.viewer(request)
        if viewer is None:
            raise self._turned_away(request)
        request.state.viewer = viewer

    def viewer(self, request: Request) -> Viewer | None:
        """Return who asks; None where that is not known.

        Raises
        ------
        NotLoggedInError
            A token was sent that opens nothing; a session beside it does not help.
        TooManyLogins
            Too many of these came from the same address of late; nothing was looked at.
        """
        if self.access is None:
            return EVERYBODY
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._machine(self.access, request, secret.strip())
        if token := self.session_cookie.read(request):
            active = request.headers.get("hx-trigger") != REFRESH
            found = sessions.find(self._database, token, self.access.logins.lifetime, active=active)
            if found is not None:
                return Viewer.of(found.name, found.role, digest(token), digest(f"form {token}"))
        if request.url.path.startswith("/api/") and self.access.from_this_machine(request):
            with self._database.read() as session:
                return None if self.access.anybody(session) else ON_THIS_MACHINE
        return None

    def needs(self, permission: Permission) -> Callable[[Request], Viewer]:
        """Make the dependency of a route that shows what not everybody may see."""

        def allowed(request: Request) -> Viewer:
            viewer: Viewer = request.state.viewer
            if not viewer.may(permission):
                if request.url.path != "/":  # the front page: who may not see it is led to their own
                    self._write(request, viewer.key, "access.refused", str(permission), viewer.name)
                raise NotAllowedError(viewer, permission)
            return viewer

        return allowed

    def note(self, request: Request, viewer: Viewer, action: str, subject: str, **detail: Any) -> None:
        """Write down that somebody looks at something; before it is shown."""
        self._write(request, viewer.key, action, subject, viewer.name, **detail)

    def note_list(self, request: Request, viewer: Viewer, shown: str, *, searched: bool, by: str) -> None:
        """Write down that somebody looks at a list: which filter, and whether a search narrowed it, not what for."""
        self.note(request, viewer, "studies.listed", f"{shown}, searched" if searched else shown, by=by)

    def _machine(self, access: Access, request: Request, secret: str) -> Viewer:
        address = address_of(request)
        with self._database.read() as session:
            wait = throttle.address_wait(session, address)
        if wait is not None:
            metrics.logins.labels(how="token", outcome="throttled").inc()
            raise TooManyLogins(max(math.ceil(wait.total_seconds()), 1))
        if access.api_token_sha256 and tokens.same(secret, access.api_token_sha256):
            return Viewer.of(SETTING, Role.RADIOLOGIST, SETTING)
        if (holder := tokens.holder(self._database, secret)) is not None:
            name, role = holder
            return Viewer.of(f"token {name}", role, f"token {name}")
        with self._database.write() as session:
            throttle.address_failed(session, address)
        metrics.logins.labels(how="token", outcome="refused").inc()
        self._write(request, address, "access.refused", "token", "nobody", why="unknown, expired or revoked token")
        raise NotLoggedInError("This token opens nothing: it is unknown, expired or revoked (`firstread tokens list`).")

    def _turned_away(self, request: Request) -> NotLoggedInError:
        if self.access is None:
            raise RuntimeError("everybody is let in where there is no Access")
        with self._database.read() as session:
            anybody = self.access.anybody(session)
        if request.url.path.startswith(("/api/", "/previews/")):
            self._write(request, address_of(request), "access.refused", "login", "nobody", why="nobody is logged in")
        if not anybody:
            return NotLoggedInError(NOBODY_YET)
        return NotLoggedInError("Log in, or send `Authorization: Bearer TOKEN` (`firstread tokens add` makes one).")

    def _write(self, request: Request, key: str, action: str, subject: str, actor: str, **detail: Any) -> None:
        if self._looks is not None:
            self._looks.write(key, action, subject, {"from": address_of(request), **detail}, actor=actor)


DESCRIBED = [Depends(bearer), Depends(cookie)]
"""Has the description of the JSON interface name what opens it; the door itself has looked by then."""
