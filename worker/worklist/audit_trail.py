"""The audit trail, newest first: a page for auditors and the same as JSON."""

import json
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from sqlmodel import col, select

from worker.accounts.permissions import Permission
from worker.database import AuditEvent, Database
from worker.worklist.api import Problem
from worker.worklist.login.door import DESCRIBED, Door
from worker.worklist.login.viewer import Viewer

PAGE_SIZE = 100


class Event(BaseModel):
    """One event of the chain."""

    id: int
    at: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous_sha256: str
    sha256: str


def router(database: Database, door: Door, templates: jinja2.Environment) -> APIRouter:
    """Make the routes of the audit trail."""
    routes = APIRouter(responses={code: {"model": Problem} for code in (401, 403, 503)})
    auditor = Depends(door.needs(Permission.AUDIT))

    @routes.get("/api/v1/audit", tags=["audit"], summary="Audit events, newest first", dependencies=DESCRIBED)
    def events(
        request: Request,
        viewer: Annotated[Viewer, auditor],
        before: Annotated[int | None, Query(ge=1, description="only events with a smaller id")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = PAGE_SIZE,
    ) -> list[Event]:
        door.note(request, viewer, "audit.viewed", "audit trail", by="api")
        return _events(database, before, limit)

    @routes.get("/audit", include_in_schema=False, response_class=HTMLResponse)
    def trail(request: Request, viewer: Annotated[Viewer, auditor], before: str = "") -> str:
        door.note(request, viewer, "audit.viewed", "audit trail", by="page")
        asked = int(before) if before.isdecimal() and before.isascii() and len(before) < 19 else None
        shown = _events(database, asked, PAGE_SIZE + 1)
        older = shown[PAGE_SIZE - 1].id if len(shown) > PAGE_SIZE else None
        page = templates.get_template("audit.html")
        return page.render(viewer=viewer, events=shown[:PAGE_SIZE], older=older, newest=asked is None)

    return routes


def _events(database: Database, before: int | None, limit: int) -> list[Event]:
    query = select(AuditEvent).order_by(col(AuditEvent.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(AuditEvent.id) < before)
    with database.read() as session:
        return [
            Event(
                id=event.id or 0,
                at=event.at.isoformat(timespec="milliseconds"),
                actor=event.actor,
                action=event.action,
                subject=event.subject,
                detail=json.loads(event.detail),
                previous_sha256=event.previous_sha256,
                sha256=event.sha256,
            )
            for event in session.exec(query)
        ]
