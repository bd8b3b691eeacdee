"""The pages: the reading worklist and a study, and the fragments that keep both live.

A search goes as a GET query, so that the page works without scripts. It holds patient data: no access log is written
(see `server.py`), nothing here logs a URL, and the scripts never put a search into the browser's address or history.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup
from starlette import status

from worker.accounts.permissions import Permission
from worker.database import Database
from worker.studies import StudyFilter, count_by_class, list_studies, study_detail, worker_silence
from worker.worklist.login.door import Door
from worker.worklist.login.viewer import Viewer
from worker.worklist.presentation import TRIAGE_WORDS
from worker.worklist.withheld import WORD, withheld

PAGE_SIZE = 50
MOST_INSTANCES = 100
"""Instances that a study page shows; the JSON interface has them all."""
MOST_PREVIEWS = 6

SHOWN: dict[str, tuple[str | None, str | None]] = {
    "all": (None, None),
    "immediate": (None, "immediate"),
    "urgent": (None, "urgent"),
    "failed": ("failed", None),
    "routine": (None, "routine"),
    "pending": ("pending", None),
    "none": ("complete", "none"),
    "not_eligible": ("not_eligible", None),
}
"""What each filter of the page lets through, as (`ai_status`, `priority`)."""


@dataclass(frozen=True)
class View:
    """What the page was asked to show."""

    search: str
    show: str
    page: int


def _view(search: str = "", show: str = "all", page: str = "1") -> View:
    """Read the page's own query leniently: a strange value shows everything, never an error page."""
    number = int(page) if page.isdecimal() and len(page) < 7 else 1
    return View(search[:200], show if show in SHOWN else "all", max(number, 1))


def router(
    database: Database, door: Door, templates: jinja2.Environment, *, previews_dir: Path, silence_seconds: float
) -> APIRouter:
    """Make the routes of the pages."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    reader = Depends(door.needs(Permission.STUDIES))

    def worklist_values(request: Request, viewer: Viewer, view: View) -> dict[str, Any]:
        named = viewer.may(Permission.PATIENTS)
        if not named:  # what a search finds tells what it looked for
            view = View("", view.show, view.page)
        with database.read() as session:
            counts = _chip_counts(count_by_class(session, view.search))
            total = counts[view.show]
            pages = max(1, -(-total // PAGE_SIZE))
            page = min(view.page, pages)
            ai_status, priority = SHOWN[view.show]
            documents = list_studies(
                session,
                StudyFilter(
                    search=view.search,
                    status=ai_status,
                    priority=priority,
                    limit=PAGE_SIZE,
                    offset=(page - 1) * PAGE_SIZE,
                ),
            )
            silence = worker_silence(session)
        door.note_list(request, viewer, view.show, searched=bool(view.search), by="page")
        return {
            "viewer": viewer,
            "may_search": named,
            "studies": documents if named else [withheld(document, WORD) for document in documents],
            "counts": counts,
            "total": total,
            "page": page,
            "pages": pages,
            "page_size": PAGE_SIZE,
            "view": view,
            "chips": {"all": "All"} | TRIAGE_WORDS,
            "silence": silence if silence is not None and silence >= silence_seconds else None,
        }

    def study_values(request: Request, viewer: Viewer, study_instance_uid: str) -> dict[str, Any]:
        with database.read() as session:
            study = study_detail(session, study_instance_uid, instances=MOST_INSTANCES)
        door.note(request, viewer, "study.viewed", study["study_instance_uid"], by="page")
        pictures = viewer.may(Permission.IMAGES)
        return {
            "viewer": viewer,
            "study": study if viewer.may(Permission.PATIENTS) else withheld(study, WORD),
            "previews": _previews(study, previews_dir) if pictures else [],
            "pictures": pictures,
        }

    def page(name: str, fragment: str, values: dict[str, Any]) -> str:
        seen = _digest(_render(templates, fragment, values, live=True))
        body = _render(templates, fragment, values, live=False)
        return templates.get_template(name).render(**values, body=body, seen=seen)

    def update(fragment: str, values: dict[str, Any], seen: str) -> HTMLResponse:
        """Answer 204 where the browser has it already: focus, selection and screen readers are left in peace."""
        body = _render(templates, fragment, values, live=True)
        if (digest := _digest(body)) == seen:
            return HTMLResponse(status_code=status.HTTP_204_NO_CONTENT)
        return HTMLResponse(templates.get_template("_live.html").render(body=body, seen=digest))

    @routes.get("/")
    def worklist(
        request: Request,
        viewer: Annotated[Viewer, reader],
        search: str = "",
        show: str = "all",
        page_number: Annotated[str, Query(alias="page")] = "1",
    ) -> str:
        values = worklist_values(request, viewer, _view(search, show, page_number))
        return page("worklist.html", "_worklist.html", values)

    @routes.get("/fragments/worklist")
    def worklist_fragment(
        request: Request,
        viewer: Annotated[Viewer, reader],
        search: str = "",
        show: str = "all",
        page_number: Annotated[str, Query(alias="page")] = "1",
        seen: str = "",
    ) -> HTMLResponse:
        values = worklist_values(request, viewer, _view(search, show, page_number))
        return update("_worklist.html", values, seen)

    @routes.get("/studies/{study_instance_uid}")
    def study(request: Request, viewer: Annotated[Viewer, reader], study_instance_uid: str) -> str:
        return page("study.html", "_study.html", study_values(request, viewer, study_instance_uid))

    @routes.get("/fragments/studies/{study_instance_uid}")
    def study_fragment(
        request: Request, viewer: Annotated[Viewer, reader], study_instance_uid: str, seen: str = ""
    ) -> HTMLResponse:
        return update("_study.html", study_values(request, viewer, study_instance_uid), seen)

    return routes


def _render(templates: jinja2.Environment, fragment: str, values: dict[str, Any], *, live: bool) -> Markup:
    """Render what changes; `live` adds the counts, which stand elsewhere on the page."""
    return Markup(templates.get_template(fragment).render(**values, live=live))  # noqa: S704 - our templates escape


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _chip_counts(classes: Counter[tuple[str, str]]) -> dict[str, int]:
    """Count what each filter of the page would show; a failed study that is urgent all the same is in both."""
    return {
        name: sum(
            count
            for (ai_status, priority), count in classes.items()
            if wanted_status in {None, ai_status} and wanted_priority in {None, priority}
        )
        for name, (wanted_status, wanted_priority) in SHOWN.items()
    }


def _previews(study: dict[str, Any], previews_dir: Path) -> list[dict[str, Any]]:
    """Choose the instances whose picture is shown: those that findings come from lead the list already."""
    shown: list[dict[str, Any]] = []
    for instance in study["instances_detail"]:
        path = previews_dir / f"{instance['id']}.png"
        if path.is_file():
            # The time of writing makes a picture that was made anew a new address.
            shown.append(instance | {"preview": f"/previews/{instance['id']}.png?v={path.stat().st_mtime_ns}"})
        if len(shown) == MOST_PREVIEWS:
            break
    return shown
