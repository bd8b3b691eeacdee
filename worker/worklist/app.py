"""The reading worklist as an application: pages, JSON interface, health, metrics, and what every answer carries."""

import re
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette import status
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import metrics
from worker.database import Database
from worker.errors import NotFound
from worker.logs import get_logger
from worker.worklist import api, pages
from worker.worklist.presentation import environment
from worker.worklist.server import serve

__all__ = ["create_app", "serve"]

log = get_logger(__name__)

STATIC = Path(__file__).parent / "static"
MACHINE_PATHS = ("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json")
"""Who asks here gets errors as JSON; elsewhere as a page."""

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_DOCS_POLICY = f"{_POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""Swagger UI sets styles from its script and draws its icons from data URLs; our own pages do neither."""
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # patient data stays out of the browser's disk cache
}


class Ready(BaseModel):
    """Whether the service can work, and what is missing."""

    status: str
    missing: dict[str, str]


class SecureHeaders:
    """Puts the security headers on every answer that does not bring its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and the headers back with its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class StaticFilesWithCache(StaticFiles):
    """Our own files, which hold no patient data: kept by the browser, asked about again."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Serve a file that may be kept."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.setdefault("cache-control", "no-cache")
        return response


def create_app(
    database: Database,
    *,
    previews_dir: Path,
    readiness: Callable[[], dict[str, str | None]],
    silence_seconds: float = 60,
    version: str,
    send_to: str = "FIRSTREAD@127.0.0.1:11112",
) -> FastAPI:
    """Make the worklist application.

    Parameters
    ----------
    database
        What is shown.
    previews_dir
        Where `INSTANCE_ID.png` previews lie.
    readiness
        Called by `/readyz`: what is needed -> None where it is fine, else what to do.
    silence_seconds
        After how many seconds without a worker the banner says so.
    version
        The release, shown at the foot of each page.
    send_to
        The listener as `AE@HOST:PORT`: an empty worklist says how to send a scan there.
    """
    app = FastAPI(
        title="firstread", summary="AI triage of chest scans. Not for diagnosis.", version=version, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    templates = environment(version=version, send_to=send_to)

    def problem(request: Request, code: int, title: str, detail: str, *, retry: bool = False) -> Response:
        headers = {"retry-after": "5"} if retry else {}
        if request.url.path.startswith(MACHINE_PATHS):
            return JSONResponse({"detail": detail}, code, headers)
        page = templates.get_template("problem.html").render(code=code, title=title, detail=detail, retry=retry)
        return HTMLResponse(page, code, headers)

    @app.exception_handler(NotFound)
    def not_found(request: Request, error: NotFound) -> Response:
        return problem(request, status.HTTP_404_NOT_FOUND, "Not found", str(error))

    @app.exception_handler(StarletteHTTPException)
    def http_error(request: Request, error: StarletteHTTPException) -> Response:
        if error.status_code == status.HTTP_404_NOT_FOUND:
            return problem(request, error.status_code, "Not found", "There is nothing at this address.")
        return problem(request, error.status_code, "This did not work", str(error.detail))

    @app.exception_handler(SQLAlchemyError)
    def database_error(request: Request, error: SQLAlchemyError) -> Response:
        # Of a connection that failed the text is safe and useful; of a statement it may hold what was searched for.
        log.error(
            "worklist_database_error",
            error=type(error).__name__,
            detail=str(error.orig).strip() if isinstance(error, OperationalError) else "",
        )
        return problem(
            request,
            status.HTTP_503_SERVICE_UNAVAILABLE,
            "The database does not answer",
            "The worklist cannot read its database, so nothing can be shown. Scans are still accepted and safe. "
            "Start the database again; `firstread check` says more.",
            retry=True,
        )

    @app.get("/healthz", tags=["service"], summary="The service is alive")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"], responses={503: {"model": Ready}}, summary="The service can work")
    def readyz(response: Response) -> Ready:
        missing = {name: to_do for name, to_do in readiness().items() if to_do is not None}
        if missing:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Ready(status="not ready" if missing else "ready", missing=missing)

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=Response)
    def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry()), media_type=CONTENT_TYPE_LATEST)

    @app.get("/previews/{instance_id}.png", tags=["studies"], summary="The image of an instance, as displayed")
    def preview(instance_id: str) -> FileResponse:
        path = previews_dir / f"{instance_id}.png"
        if not re.fullmatch(r"[0-9]{1,18}", instance_id) or not path.is_file():
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return FileResponse(path, media_type="image/png", headers={"cache-control": "private, max-age=300"})

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        page = templates.get_template("docs.html").render()
        return HTMLResponse(page, headers={"content-security-policy": _DOCS_POLICY})

    app.include_router(api.router(database))
    app.include_router(pages.router(database, templates, previews_dir=previews_dir, silence_seconds=silence_seconds))
    app.mount("/static", StaticFilesWithCache(directory=STATIC), name="static")
    app.add_middleware(SecureHeaders)
    return app
