"""The rows of a batch of registrations: what is there and what is new, found and written for all at once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.database import Instance, Series, Study
from worker.intake.described import Described
from worker.uids import derived_uid

NO_IMAGES = ("", "SR", "PR", "KO", "DOC")
"""Modalities that say nothing of the study: that of its first image does."""


def locked_studies(session: Session, objects: Sequence[Described]) -> dict[str, Study]:
    """Lock the studies of a batch that are there already, in the one order that everybody keeps; by their UID."""
    uids = {one.study_instance_uid for one in objects}
    uids |= {derived_uid("stand-in", "study", one.stored.dataset_sha256) for one in objects}
    locked = session.exec(
        select(Study).where(col(Study.study_instance_uid).in_(uids)).order_by(col(Study.id)).with_for_update()
    )
    return {study.study_instance_uid: study for study in locked}


def known_of(session: Session, objects: Sequence[Described]) -> tuple[set[str], dict[str, set[str]]]:
    """Return the spool names that have a row, and of each SOP Instance UID the digests that were received under it."""
    names = sa.select(col(Instance.spool_name)).where(col(Instance.spool_name).in_([one.name for one in objects]))
    digests: dict[str, set[str]] = defaultdict(set)
    query = sa.select(col(Instance.sop_instance_uid), col(Instance.dataset_sha256)).where(
        col(Instance.sop_instance_uid).in_({one.sop_instance_uid for one in objects})
    )
    for uid, digest in session.execute(query):
        digests[uid].add(digest)
    return set(session.scalars(names)), digests


def begin_studies(session: Session, fresh: Iterable[Described], studies: dict[str, Study]) -> list[int]:
    """Write the studies that are new, each as its first object says; add them to `studies`, return their numbers."""
    first: dict[str, Described] = {}
    for one in fresh:
        if one.study_instance_uid not in studies:
            first.setdefault(one.study_instance_uid, one)
    if not first:
        return []
    rows = [
        {
            "study_instance_uid": uid,
            "patient_id": one.text("PatientID"),
            "patient_name": one.text("PatientName"),
            "accession_number": one.text("AccessionNumber"),
            "modality": one.text("Modality", 16),
            "study_description": one.text("StudyDescription"),
            "received_at": one.received_at,
            "last_received_at": one.received_at,
            "remark": one.study_remark,
            **dict.fromkeys(("ai_status", "priority", "reason", "report_error"), ""),
            **dict.fromkeys(("rank", "generation"), 0),
            "findings": [],
        }
        for uid, one in first.items()
    ]
    begun = session.scalars(sa.insert(Study).returning(Study), rows).all()
    studies.update({study.study_instance_uid: study for study in begun})
    return [id_of(study) for study in begun]


def take_in(study: Study, one: Described) -> str:
    """Fill in what the objects of a study that came before did not say; return what is worth knowing of this one."""
    remark = one.study_remark
    if one.text("PatientID") and not study.patient_id:
        study.patient_id = one.text("PatientID")
        study.patient_name = study.patient_name or one.text("PatientName")
        study.accession_number = study.accession_number or one.text("AccessionNumber")
        study.study_description = study.study_description or one.text("StudyDescription")
        remark = "; ".join(filter(None, (remark, "an earlier object of the study has no PatientID")))
    if study.modality in NO_IMAGES:
        study.modality = one.text("Modality", 16) or study.modality
    return remark


def twins_of(session: Session, objects: Sequence[Described]) -> dict[tuple[str, str], Instance]:
    """Return the instances that objects are the same as, by what makes them the same."""
    if not objects:
        return {}
    found = session.exec(
        select(Instance).where(
            col(Instance.sop_instance_uid).in_({one.sop_instance_uid for one in objects}),
            col(Instance.dataset_sha256).in_({one.stored.dataset_sha256 for one in objects}),
        )
    )
    return {(one.sop_instance_uid, one.dataset_sha256): one for one in found}


def series_of(session: Session, fresh: Sequence[Described], studies: Mapping[str, Study]) -> dict[tuple[int, str], int]:
    """Return the numbers of the series of new instances by study and UID; those that are new are written."""
    first: dict[tuple[int, str], Described] = {}
    for one in fresh:
        first.setdefault((id_of(studies[one.study_instance_uid]), one.series_instance_uid), one)
    query = sa.select(col(Series.study_id), col(Series.series_instance_uid), col(Series.id)).where(
        col(Series.study_id).in_({study_id for study_id, _ in first}),
        col(Series.series_instance_uid).in_({uid for _, uid in first}),
    )
    found = {(study_id, uid): number for study_id, uid, number in session.execute(query)} if first else {}
    rows = [
        {
            "study_id": study_id,
            "series_instance_uid": uid,
            "modality": one.text("Modality", 16),
            "series_description": one.text("SeriesDescription"),
            "body_part_examined": one.text("BodyPartExamined", 64),
        }
        for (study_id, uid), one in first.items()
        if (study_id, uid) not in found
    ]
    if rows:
        insert = sa.insert(Series).returning(col(Series.study_id), col(Series.series_instance_uid), col(Series.id))
        found |= {(study_id, uid): number for study_id, uid, number in session.execute(insert, rows)}
    return found


def insert_instances(session: Session, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Write the rows of new instances; return their numbers by spool name."""
    if not rows:
        return {}
    insert = sa.insert(Instance).returning(col(Instance.spool_name), col(Instance.id))
    return {name: number or 0 for name, number in session.execute(insert, rows)}


def id_of(row: Study | Instance) -> int:
    """Return the number of a row that is written."""
    if row.id is None:
        raise RuntimeError(f"{type(row).__name__} was not flushed")
    return row.id
