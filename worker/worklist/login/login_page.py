"""The login page, and what follows a login: a new session in the browser, in place of whatever it had."""

from urllib.parse import quote, urlsplit

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette import status

from worker.accounts.permissions import Permission
from worker.accounts.secrets import digest, new_secret
from worker.database import Database
from worker.worklist.login.access import NOBODY_YET, Access, address_of
from worker.worklist.login.cookies import Cookie
from worker.worklist.login.door import Door
from worker.worklist.login.forms import require_token


class LoginPage:
    """The page, and the way from it to the worklist."""

    def __init__(self, database: Database, door: Door, access: Access, templates: jinja2.Environment) -> None:
        self._database = database
        self._door = door
        self._access = access
        self._templates = templates
        self._form_cookie = Cookie("form", "strict")

    def show(self, request: Request, *, said: str = "", next_path: str = "/", code: int = 200) -> Response:
        """Show the page, with a token in its form and what it is made of in a cookie."""
        secret, provider = self._form_cookie.read(request) or new_secret(), self._access.provider
        with self._database.read() as session:
            nobody_yet = "" if self._access.anybody(session) else NOBODY_YET
        page = self._templates.get_template("login.html").render(
            said=said,
            next_path=next_path,
            form_token=_form_token(secret),
            nobody_yet=nobody_yet,
            by_link=self._access.from_this_machine(request),
            provider=provider is not None,
            provider_name=urlsplit(provider.issuer).hostname if provider is not None else "",
        )
        response = HTMLResponse(page, code)
        self._form_cookie.put(request, response, secret)
        return response

    def require_own_form(self, request: Request, fields: dict[str, str]) -> None:
        """Refuse a form that is not of a page that this browser was shown.

        Raises
        ------
        HTTPException
            403.
        """
        secret = self._form_cookie.read(request)
        require_token(fields, _form_token(secret) if secret else "")

    def let_in(self, request: Request, token: str, next_path: str) -> Response:
        """Begin the session of a token in this browser, and end the one it had."""
        if earlier := self._door.session_cookie.read(request):
            self._access.logins.out(earlier, address=address_of(request))
        response = RedirectResponse(local(next_path), status.HTTP_303_SEE_OTHER)
        self._door.session_cookie.put(request, response, token)
        self._form_cookie.clear(request, response)
        return response


def _form_token(secret: str) -> str:
    return digest(f"login {secret}")


def login_address(request: Request) -> str:
    """Return where to log in to come back to what was asked for; a search, which names patients, is left out."""
    path = request.url.path
    if path.startswith("/fragments/studies/"):
        path = path.removeprefix("/fragments")
    elif path.startswith("/fragments/"):
        path = "/"
    return "/login" if path == "/" else f"/login?next={quote(path, safe='/')}"


def local(path: str) -> str:
    """Return a path of ours; whatever leads elsewhere, or to the login again, becomes `/`."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith(("//", "/login", "/logout")) else "/"


def home_of(permissions: frozenset[Permission]) -> str:
    """Return the page somebody begins with."""
    return "/audit" if Permission.AUDIT in permissions and Permission.STUDIES not in permissions else "/"
