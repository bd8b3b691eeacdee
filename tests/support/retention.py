"""Retention of a pipeline under test: what arrives, what is removed forty days later."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pydicom
from sqlmodel import col, select

from tests.support.objects import film, spool_object
from worker.config import Peer
from worker.database import Instance, utc_now
from worker.pipeline import Pipeline
from worker.retention.removal import Removal, Retention

PACS = Peer.parse("PACS@192.0.2.1:104")
LATER = timedelta(days=40)


def retention(pipeline: Pipeline, *, days: int = 30, floor: int = 0, later: timedelta = LATER) -> Retention:
    return Retention(
        pipeline.database, pipeline.spool, pipeline.previews_dir, pipeline.record,
        days=days, floor_bytes=floor, clock=lambda: utc_now() + later,
    )  # fmt: skip


def uids(removals: Iterator[Removal]) -> list[str]:
    return [one.study_instance_uid for one in removals]


def arrive(pipeline: Pipeline, **attributes: Any) -> pydicom.Dataset:
    ds = film(**attributes)
    spool_object(pipeline.spool, ds)
    return ds


def instances(pipeline: Pipeline) -> list[Instance]:
    with pipeline.database.read() as session:
        return list(session.exec(select(Instance).order_by(col(Instance.id))))
