"""The rows of a batch of registrations: what is there and what is new, found and written for all at once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker.database import Instance, Series, Study
from worker.intake.described import Described
from worker.uids import derived_uid

_INSTANCE: sa.Table = Instance.__table__  # type: ignore[attr-defined]
_SERIES: sa.Table = Series.__table__  # type: ignore[attr-defined]

NO_IMAGES = ("", "SR", "PR", "KO", "DOC")
"""Modalities that say nothing of the study: that of its first image does."""


def locked_studies(session: Session, objects: Sequence[Described]) -> dict[str, Study]:
    """Lock the studies of a batch that are there already, in the one order that everybody keeps; by their UID."""
    uids = {one.study_instance_uid for one in objects}
    uids |= {derived_uid("stand-in", "study", one.stored.dataset_sha256) for one in objects}
    locked = session.scalars(_lock_studies(), {"uids": list(uids)})
    return {study.study_instance_uid: study for study in locked}


@cache
def _lock_studies() -> sa.Select[Any]:
    theirs = col(Study.study_instance_uid).in_(sa.bindparam("uids", expanding=True))
    return sa.select(Study).where(theirs).order_by(col(Study.id)).with_for_update()


def known_of(session: Session, objects: Sequence[Described]) -> tuple[set[str], dict[str, set[str]]]:
    """Return the spool names that have a row, and of each SOP Instance UID the digests that were received under it."""
    connection = session.connection()
    digests: dict[str, set[str]] = defaultdict(set)
    uids = list({one.sop_instance_uid for one in objects})
    for uid, digest in connection.execute(_digests(), {"uids": uids}):
        digests[uid].add(digest)
    return set(connection.scalars(_names(), {"names": [one.name for one in objects]})), digests


@cache
def _digests() -> sa.Select[Any]:
    query = sa.select(_INSTANCE.c.sop_instance_uid, _INSTANCE.c.dataset_sha256)
    return query.where(_INSTANCE.c.sop_instance_uid.in_(sa.bindparam("uids", expanding=True)))


@cache
def _names() -> sa.Select[Any]:
    name = _INSTANCE.c.spool_name
    return sa.select(name).where(name.in_(sa.bindparam("names", expanding=True)))


def registered_twins(session: Session, uids: Iterable[str], digests: Iterable[str]) -> list[tuple[str, str]]:
    """Return spool name and SHA-256 of instances that are kept and have one of these UIDs and one of these digests."""
    given = {"uids": list(uids), "digests": list(digests)}
    return [(name, sha256) for name, sha256 in session.connection().execute(_twins(), given)]


@cache
def _twins() -> sa.Select[Any]:
    instance = _INSTANCE.c
    return sa.select(instance.spool_name, instance.sha256).where(
        instance.sop_instance_uid.in_(sa.bindparam("uids", expanding=True)),
        instance.dataset_sha256.in_(sa.bindparam("digests", expanding=True)),
        instance.removal_began_at.is_(None),
    )


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
    begun = session.scalars(_begin(), rows).all()
    studies.update({study.study_instance_uid: study for study in begun})
    return [id_of(study) for study in begun]


@cache
def _begin() -> Any:
    return sa.insert(Study).returning(Study)


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
    if not first:
        return {}
    connection = session.connection()
    given = {"studies": list({study_id for study_id, _ in first}), "uids": list({uid for _, uid in first})}
    found = {(study_id, uid): number for study_id, uid, number in connection.execute(_series(), given)}
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
        found |= {(study_id, uid): number for study_id, uid, number in connection.execute(_insert_series(), rows)}
    return found


@cache
def _series() -> sa.Select[Any]:
    series = _SERIES.c
    return sa.select(series.study_id, series.series_instance_uid, series.id).where(
        series.study_id.in_(sa.bindparam("studies", expanding=True)),
        series.series_instance_uid.in_(sa.bindparam("uids", expanding=True)),
    )


@cache
def _insert_series() -> sa.UpdateBase:
    series = _SERIES.c
    return sa.insert(_SERIES).returning(series.study_id, series.series_instance_uid, series.id)


def insert_instances(session: Session, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Write the rows of new instances; return their numbers by spool name."""
    if not rows:
        return {}
    return dict(session.connection().execute(_insert_instances(), rows).all())


@cache
def _insert_instances() -> sa.UpdateBase:
    return sa.insert(_INSTANCE).returning(_INSTANCE.c.spool_name, _INSTANCE.c.id)


def spool_names(session: Session, instances: Sequence[int]) -> dict[int, str]:
    """Return the spool names of instances, by their number."""
    return dict(session.connection().execute(_spool_names(), {"instances": instances}).all())


@cache
def _spool_names() -> sa.Select[Any]:
    instance = _INSTANCE.c
    return sa.select(instance.id, instance.spool_name).where(instance.id.in_(sa.bindparam("instances", expanding=True)))


def id_of(row: Study | Instance) -> int:
    """Return the number of a row that is written."""
    if row.id is None:
        raise RuntimeError(f"{type(row).__name__} was not flushed")
    return row.id
