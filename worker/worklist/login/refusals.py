"""What is answered to those who are not let in: a login page to people, a status and words to machines."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette import status

from worker.errors import TooManyLogins
from worker.worklist.login.door import NotAllowedError, NotLoggedInError
from worker.worklist.login.login_page import home_of, login_address

MACHINES = ("/api/", "/previews/")
FRAGMENTS = "/fragments/"


def handle(app: FastAPI, problem: Callable[[Request, int, str, str], Response]) -> None:
    """Have an application answer them; `problem` makes the page or the JSON of an error."""

    @app.exception_handler(NotLoggedInError)
    def not_logged_in(request: Request, error: NotLoggedInError) -> Response:
        path = request.url.path
        if path.startswith(MACHINES):
            challenge = {"www-authenticate": 'Bearer realm="firstread"'}
            return JSONResponse({"detail": error.detail}, status.HTTP_401_UNAUTHORIZED, challenge)
        if path.startswith(FRAGMENTS):  # an open page whose login has ended: htmx takes the whole page there
            return Response(status_code=status.HTTP_401_UNAUTHORIZED, headers={"hx-redirect": login_address(request)})
        return RedirectResponse(login_address(request), status.HTTP_303_SEE_OTHER)

    @app.exception_handler(TooManyLogins)
    def too_many(_request: Request, error: TooManyLogins) -> Response:
        headers = {"retry-after": str(error.seconds)}
        return JSONResponse({"detail": str(error)}, status.HTTP_429_TOO_MANY_REQUESTS, headers)

    @app.exception_handler(NotAllowedError)
    def not_allowed(request: Request, error: NotAllowedError) -> Response:
        if request.url.path == "/" and (home := home_of(error.viewer.permissions)) != "/":
            return RedirectResponse(home, status.HTTP_303_SEE_OTHER)
        return problem(request, status.HTTP_403_FORBIDDEN, "Not for your role", str(error))
