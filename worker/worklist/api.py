"""The JSON interface: studies as CONTRACT.md shows them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette import status as http

from worker.accounts.permissions import Permission
from worker.database import Database
from worker.studies import StudyFilter, count_studies, list_studies, study_detail
from worker.worklist.login.door import DESCRIBED, Door
from worker.worklist.login.viewer import Viewer
from worker.worklist.withheld import withheld

Status = Literal["pending", "complete", "failed", "not_eligible"]
Priority = Literal["immediate", "urgent", "routine", "none"]

Withheld: Any = Field(description="null where your role may not see whose the study is")


class Code(BaseModel):
    """A coded concept (DICOM PS3.3 8.8)."""

    scheme: str
    value: str
    meaning: str


class Finding(BaseModel):
    """What one model says of one label for the whole study."""

    model_config = ConfigDict(protected_namespaces=(), extra="allow")
    label: str
    code: Code | None = None
    probability: float
    threshold: float | None
    flagged: bool
    model: str
    model_version: str
    sop_instance_uid: str
    """The instance that the probability comes from; where it is a mean (`rollup` says of what), the highest."""


class Delivery(BaseModel):
    """A report on its way to one destination."""

    destination: str
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    last_error: str | None
    committed: bool | None = None
    """Whether the destination answers for it (storage commitment); null: not asked, not offered or not yet said."""


class Report(BaseModel):
    """A stored report; a higher generation supersedes the one before."""

    sop_instance_uid: str
    kind: str
    generation: int
    deliveries: list[Delivery]


class Instances(BaseModel):
    """How many instances of the study are in which state."""

    received: int
    classified: int
    failed: int
    not_eligible: int
    pending: int


class StudyDocument(BaseModel):
    """A study, what the AI made of it, and where the reports are."""

    study_instance_uid: str
    patient_id: str | None = Withheld
    patient_name: str | None = Withheld
    accession_number: str | None = Withheld
    modality: str
    study_description: str | None = Withheld
    received_at: str
    completed_at: str | None
    priority: Priority
    ai_status: Status
    reason: str
    failure_acknowledged_at: str | None
    """When a person said that the failure is known; null again when something of the study fails after that."""
    instances: Instances
    findings: list[Finding]
    reports: list[Report]


class PredictionDetail(BaseModel):
    """What one model version said of one instance: every class."""

    model_config = ConfigDict(protected_namespaces=())
    id: int
    model: str
    model_version: str
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    flagged: list[str]
    recipe: str
    engine: str
    device: str
    batch_size: int
    decode_seconds: float
    inference_seconds: float
    created_at: str


class InstanceDetail(BaseModel):
    """One accepted object."""

    id: int
    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    status: str
    reason: str
    remark: str
    calling_ae: str
    patient_id: str | None = Withheld
    received_at: str
    size_bytes: int
    sha256: str
    bytes_removed_at: str | None
    """When retention removed the stored bytes; what is said of them stays."""
    predictions: list[PredictionDetail]


class SeriesDetail(BaseModel):
    """One series of the study."""

    series_instance_uid: str
    modality: str
    series_description: str | None = Withheld
    body_part_examined: str
    instances: int


class StudyDetail(StudyDocument):
    """A study with its series and instances."""

    remark: str
    generation: int
    failure_acknowledged_by: str | None
    series: list[SeriesDetail]
    instances_detail: list[InstanceDetail]


class Problem(BaseModel):
    """Why there is no answer, and what to do."""

    detail: str


def router(database: Database, door: Door) -> APIRouter:
    """Make the routes of `/api/v1`."""
    refused: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (401, 403, 503)}
    routes = APIRouter(prefix="/api/v1", tags=["studies"], responses=refused, dependencies=DESCRIBED)
    reader = Depends(door.needs(Permission.STUDIES))

    @routes.get("/studies", summary="Studies, most urgent first, then oldest first")
    def studies(
        *,
        request: Request,
        response: Response,
        viewer: Annotated[Viewer, reader],
        search: Annotated[
            str, Query(max_length=200, description="words in patient ID, patient name or accession number")
        ] = "",
        status: Annotated[Status | None, Query(description="only this ai_status")] = None,
        priority: Annotated[Priority | None, Query(description="only this priority")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    ) -> list[StudyDocument]:
        """List studies; the header `X-Total-Count` says how many there are in all."""
        if search and not viewer.may(Permission.PATIENTS):
            raise HTTPException(http.HTTP_403_FORBIDDEN, f"The role {viewer.role} may not search for patients.")
        wanted = StudyFilter(search=search, status=status, priority=priority, limit=limit, offset=offset)
        with database.read() as session:
            documents = list_studies(session, wanted)
            response.headers["X-Total-Count"] = str(count_studies(session, wanted))
        door.note_list(request, viewer, status or priority or "all", searched=bool(search), by="api")
        return [StudyDocument.model_validate(_for(viewer, document)) for document in documents]

    @routes.get(
        "/studies/{study_instance_uid}",
        summary="One study with its series and instances",
        responses={404: {"model": Problem}},
    )
    def study(
        request: Request,
        viewer: Annotated[Viewer, reader],
        study_instance_uid: Annotated[str, Path(description="Study Instance UID")],
    ) -> StudyDetail:
        with database.read() as session:
            document = study_detail(session, study_instance_uid)
        door.note(request, viewer, "study.viewed", document["study_instance_uid"], by="api")
        return StudyDetail.model_validate(_for(viewer, document))

    return routes


def _for(viewer: Viewer, document: dict[str, Any]) -> dict[str, Any]:
    return document if viewer.may(Permission.PATIENTS) else withheld(document, None)
