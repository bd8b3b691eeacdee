"""The reading worklist as an application: pages, JSON interface, health, metrics, and what every answer carries."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette import status
from starlette.exceptions import HTTPException as StarletteHTTPException
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from worker import metrics
from worker.database import Database
from worker.errors import NotFound
from worker.logs import get_logger
from worker.worklist import api, audit_trail, pages, previews
from worker.worklist.headers import DOCS_POLICY, SecureHeaders, StaticFilesWithCache
from worker.worklist.login import refusals
from worker.worklist.login import routes as login
from worker.worklist.login.access import Access
from worker.worklist.login.door import Door
from worker.worklist.login.login_page import LoginPage
from worker.worklist.presentation import environment
from worker.worklist.server import serve

__all__ = ["Access", "create_app", "serve"]

log = get_logger(__name__)

STATIC = Path(__file__).parent / "static"
MACHINE_PATHS = ("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json")
"""Who asks here gets errors as JSON; elsewhere as a page."""


class Ready(BaseModel):
    """Whether the service can work, and what is missing."""

    status: str
    missing: dict[str, str]


def create_app(
    database: Database,
    *,
    previews_dir: Path,
    readiness: Callable[[], dict[str, str | None]],
    silence_seconds: float = 60,
    version: str,
    send_to: str = "FIRSTREAD@127.0.0.1:11112",
    access: Access | None = None,
    trusted_proxies: Sequence[str] = (),
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
    access
        Who may come in; None: whoever reaches us sees everything.
    trusted_proxies
        Addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    """
    door = Door(database, access)
    app = FastAPI(
        title="firstread", summary="AI triage of chest scans. Not for diagnosis.", version=version, docs_url=None,
        redoc_url=None, dependencies=[Depends(door.look_at)],
    )  # fmt: skip
    templates = environment(version=version, send_to=send_to)

    def problem(request: Request, code: int, title: str, detail: str, *, retry: bool = False) -> Response:
        headers = {"retry-after": "5"} if retry else {}
        if request.url.path.startswith(MACHINE_PATHS):
            return JSONResponse({"detail": detail}, code, headers)
        page = templates.get_template("problem.html").render(
            code=code, title=title, detail=detail, retry=retry, viewer=getattr(request.state, "viewer", None)
        )
        return HTMLResponse(page, code, headers)

    refusals.handle(app, problem)

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

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        page = templates.get_template("docs.html").render()
        return HTMLResponse(page, headers={"content-security-policy": DOCS_POLICY})

    app.include_router(api.router(database, door))
    app.include_router(audit_trail.router(database, door, templates))
    app.include_router(previews.router(database, door, previews_dir))
    app.include_router(
        pages.router(database, door, templates, previews_dir=previews_dir, silence_seconds=silence_seconds)
    )
    if access is not None:
        app.include_router(login.router(door, access, LoginPage(database, door, access, templates)))
    app.mount("/static", StaticFilesWithCache(directory=STATIC), name="static")
    app.add_middleware(SecureHeaders)
    if trusted_proxies:  # outermost: what is inside sees the client's address and scheme
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(trusted_proxies))
    return app
