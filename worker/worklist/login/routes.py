"""The routes of the login: page, logout, one-time link, and the way through a provider."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette import status
from starlette.concurrency import run_in_threadpool

from worker.accounts.logins import LINK_SPENT
from worker.errors import LoginRefused, ProviderUnreachable, TooManyLogins
from worker.logs import get_logger
from worker.worklist.login.access import Access, address_of
from worker.worklist.login.door import Door, NotLoggedInError
from worker.worklist.login.forms import Fields, require_token
from worker.worklist.login.login_page import LoginPage, local
from worker.worklist.login.provider import Provider, UntrustedAnswerError

log = get_logger(__name__)

PREFETCH = ("sec-purpose", "purpose", "x-moz")
"""Headers of a browser that fetches what nobody has opened yet: that must not spend a link."""
OIDC_REFUSED = "The login provider's answer lets you in to nothing here. Ask whoever looks after firstread for a role."


def router(door: Door, access: Access, page: LoginPage) -> APIRouter:
    """Make the routes of the login."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @routes.get("/login")
    def login_page(request: Request) -> Response:
        next_path = local(request.query_params.get("next", "/"))
        try:
            viewer = door.viewer(request)
        except NotLoggedInError:
            viewer = None
        if viewer is not None:
            return RedirectResponse(next_path, status.HTTP_303_SEE_OTHER)
        return page.show(request, next_path=next_path)

    @routes.post("/login")
    def log_in(request: Request, fields: Fields) -> Response:
        page.require_own_form(request, fields)
        name, password, next_path = fields.get("name", ""), fields.get("password", ""), local(fields.get("next", "/"))
        try:
            token = access.logins.by_password(name, password, address=address_of(request))
        except LoginRefused as error:
            return page.show(request, said=str(error), next_path=next_path, code=status.HTTP_401_UNAUTHORIZED)
        except TooManyLogins as error:
            slow = page.show(request, said=str(error), next_path=next_path, code=status.HTTP_429_TOO_MANY_REQUESTS)
            slow.headers["retry-after"] = str(error.seconds)
            return slow
        return page.let_in(request, token, next_path)

    @routes.post("/logout")
    def log_out(request: Request, fields: Fields) -> Response:
        if (viewer := door.viewer(request)) is not None:
            require_token(fields, viewer.form_secret)
            access.logins.out(door.session_cookie.read(request), address=address_of(request))
        response = RedirectResponse("/login", status.HTTP_303_SEE_OTHER)
        door.session_cookie.clear(request, response)
        return response

    @routes.get("/login/link/{token}")
    def by_link(request: Request, token: str) -> Response:
        if any("prefetch" in request.headers.get(name, "") for name in PREFETCH):
            return Response(status_code=status.HTTP_204_NO_CONTENT)
        address = address_of(request)
        try:
            if not access.from_this_machine(request):
                raise access.logins.refused("link", "not from this machine", address=address, says=LINK_SPENT)
            session_token = access.logins.by_link(token, address=address)
        except LoginRefused as error:
            return page.show(request, said=str(error), code=status.HTTP_401_UNAUTHORIZED)
        return page.let_in(request, session_token, "/")

    if access.provider is not None:
        _add_provider(routes, access, access.provider, page)
    return routes


def _add_provider(routes: APIRouter, access: Access, provider: Provider, page: LoginPage) -> None:
    """Add the way through a provider: there, and back."""

    @routes.get("/login/provider")
    async def to_provider(request: Request) -> Response:
        next_path = local(request.query_params.get("next", "/"))
        try:
            return await provider.redirect(request, str(request.url_for("from_provider")), next_path)
        except ProviderUnreachable as error:
            return await away(request, error)

    @routes.get("/login/provider/back", name="from_provider")
    async def from_provider(request: Request) -> Response:
        try:
            person, next_path = await provider.person(request)
            token = await run_in_threadpool(access.logins.by_provider, person, address=address_of(request))
            response = await run_in_threadpool(page.let_in, request, token, next_path)
        except UntrustedAnswerError as error:
            await run_in_threadpool(access.logins.refused, "oidc", str(error), address=address_of(request))
            response = await turned_away(request)
        except LoginRefused:
            response = await turned_away(request)
        except ProviderUnreachable as error:
            response = await away(request, error)
        provider.forget(request, response)
        return response

    async def turned_away(request: Request) -> Response:
        return await run_in_threadpool(page.show, request, said=OIDC_REFUSED, code=status.HTTP_401_UNAUTHORIZED)

    async def away(request: Request, error: ProviderUnreachable) -> Response:
        log.warning("login_provider_away", error=str(error))
        said = "The login provider does not answer. Log in with a password, or try again later."
        return await run_in_threadpool(page.show, request, said=said, code=status.HTTP_503_SERVICE_UNAVAILABLE)
