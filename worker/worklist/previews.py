"""The pictures of instances, as inference left them."""

import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse
from sqlmodel import select
from starlette import status

from worker.accounts.permissions import Permission
from worker.database import Database, Instance, Study
from worker.worklist.login.door import Door
from worker.worklist.login.viewer import Viewer


def router(database: Database, door: Door, previews_dir: Path) -> APIRouter:
    """Make the route of the pictures."""
    routes = APIRouter(tags=["studies"])

    @routes.get("/previews/{instance_id}.png", summary="The image of an instance, as displayed")
    def preview(
        request: Request, viewer: Annotated[Viewer, Depends(door.needs(Permission.IMAGES))], instance_id: str
    ) -> FileResponse:
        path = previews_dir / f"{instance_id}.png"
        if not re.fullmatch(r"[0-9]{1,18}", instance_id) or not path.is_file():
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        with database.read() as session:
            uid = session.exec(
                select(Study.study_instance_uid).join(Instance).where(Instance.id == int(instance_id))
            ).one_or_none()
        door.note(request, viewer, "study.viewed", uid or f"picture {instance_id}", by="picture")
        # Kept by no cache: after a logout the next person at this screen has the same browser.
        return FileResponse(path, media_type="image/png", headers={"cache-control": "private, no-store"})

    return routes
