"""Retention removes what nobody needs, never what is owed or undelivered, and every place says what it did."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from sqlmodel import col, select

from tests.support.backups import accounted, work_off
from tests.support.browser import served
from tests.support.fakes import MODEL, FakeClassifier, FakeReader
from tests.support.objects import film, spool_object
from tests.support.retention import LATER, PACS, arrive, instances, retention, uids
from worker.commitment.message import Message, Reference
from worker.database import (
    AuditEvent,
    Delivery,
    DeliveryStatus,
    Report,
    Study,
    WorkItem,
    WorkKind,
    WorkState,
    utc_now,
)
from worker.errors import BytesRemoved, NotFound, PeerUnreachable
from worker.intake.spool import new_name
from worker.operations import acknowledge, quarantine_list, quarantine_retry, reprocess, resend
from worker.pipeline import Pipeline
from worker.reporting import pacs
from worker.retention.rules import KEPT_BECAUSE
from worker.studies import study_detail
from worker.worklist.app import create_app


def unreadable(pipeline: Pipeline) -> pydicom.Dataset:
    ds = film()
    ds.PixelData = b"\0\0"
    spool_object(pipeline.spool, ds)
    return ds


def came_long_ago(pipeline: Pipeline) -> None:
    with pipeline.database.write() as session:
        for study in session.exec(select(Study)):
            study.last_received_at -= LATER


def ask_about(pipeline: Pipeline, *sop_instance_uids: str) -> None:
    references = tuple(Reference("1.2.840.10008.5.1.4.1.1.2", uid) for uid in sop_instance_uids)
    with pipeline.spool.receive_commitment() as incoming:
        incoming.write(Message("request", "2.25.7", references, "STRANGER", "FIRSTREAD").to_json())
        incoming.commit()


def test_old_and_finished_studies_lose_their_bytes_and_keep_their_rows(
    pipeline: Pipeline, database_url: str, tmp_path: Path
) -> None:
    done, not_eligible = arrive(pipeline), arrive(pipeline, ViewPosition="LL")
    work_off(pipeline)
    rule = retention(pipeline)
    review = rule.review().as_json()
    assert (review["removable"]["studies"], review["removable"]["instances"]) == (2, 2)
    assert review["removable"]["bytes"] == sum(path.stat().st_size for path in pipeline.spool.stored_dir.rglob("*.dcm"))
    assert len(list(pipeline.spool.filed())) == 2  # looking removes nothing
    removed = list(rule.run())
    assert [one.study_instance_uid for one in removed] == [done.StudyInstanceUID, not_eligible.StudyInstanceUID]
    assert sum(one.bytes for one in removed) == review["removable"]["bytes"]
    assert list(pipeline.spool.filed()) == list(pipeline.previews_dir.iterdir()) == []
    assert list(rule.run()) == []
    sums = accounted(database_url, tmp_path)
    assert (sums["accepted"], sums["complete"], sums["not_eligible"]) == (2, 1, 1)
    assert (sums["removed_by_retention"], sums["unaccounted"]) == (2, [])
    with pipeline.database.read() as session:
        detail = study_detail(session, done.StudyInstanceUID)
        events = session.exec(select(AuditEvent).where(AuditEvent.action == "bytes.removed")).all()
    assert detail["findings"]
    assert detail["instances_detail"][0]["bytes_removed_at"].startswith(f"{(utc_now() + LATER):%Y-%m-%d}")
    assert [event.subject for event in events] == [one.study_instance_uid for one in removed]
    assert '"ids":[[1,1]]' in events[0].detail
    app = create_app(pipeline.database, previews_dir=pipeline.previews_dir, readiness=dict, version="1.0.0")
    with served(app) as address:
        shown = httpx.get(f"{address}/studies/{done.StudyInstanceUID}").text
        document = httpx.get(f"{address}/api/v1/studies/{done.StudyInstanceUID}").json()
    assert "No picture: the stored images were removed by retention on" in shown
    assert "Stored image removed by retention on" in shown
    assert document["instances_detail"][0]["bytes_removed_at"] == detail["instances_detail"][0]["bytes_removed_at"]


def test_what_is_young_stays_and_without_a_limit_everything(pipeline: Pipeline) -> None:
    arrive(pipeline)
    work_off(pipeline)
    assert list(retention(pipeline, days=41).run()) == []
    assert list(retention(pipeline, days=0).run()) == []
    assert retention(pipeline, days=0).review().older_than is None


def test_what_is_pending_owed_or_undelivered_stays_however_old_and_however_full(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> pacs.Delivered:
        raise PeerUnreachable("no answer")

    arrive(pipeline)
    arrive(pipeline)
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    monkeypatch.setattr(pacs, "deliver", away)
    assert retention(pipeline).review().kept == {**dict.fromkeys(KEPT_BECAUSE, 0), "owed": 2}
    pipeline.report()
    pipeline.deliver()
    arrive(pipeline)
    pipeline.register_arrivals()
    assert pipeline.work.claim(WorkKind.INFER, lane=MODEL)
    with pipeline.database.write() as session:  # given up: owed to nobody, and delivered to nobody
        delivery = session.exec(select(Delivery).order_by(col(Delivery.id))).first()
        assert delivery is not None
        delivery.status = DeliveryStatus.FAILED
        work = session.exec(select(WorkItem).where(WorkItem.subject == f"delivery {delivery.id}")).one()
        work.state, work.finished_at = WorkState.QUARANTINED, utc_now()
        report = session.get(Report, delivery.report_id)
        study = session.get(Study, report.study_id if report else 0)
        assert study is not None
    acknowledge(pipeline, study.study_instance_uid)
    rule = retention(pipeline, floor=1 << 60)
    review = rule.review()
    assert review.kept == {"pending": 1, "owed": 1, "undelivered": 1, "failed_not_acknowledged": 0}
    assert review.removable == {"studies": 0, "instances": 0, "bytes": 0}
    assert list(rule.run()) == []
    assert len(list(pipeline.spool.filed())) == 3


def test_a_failure_after_the_acknowledged_one_is_known_to_nobody(pipeline: Pipeline) -> None:
    cut = unreadable(pipeline)
    work_off(pipeline)
    acknowledge(pipeline, cut.StudyInstanceUID)
    (given_up,) = quarantine_list(pipeline.database)
    quarantine_retry(pipeline, given_up.id)
    work_off(pipeline)
    with pipeline.database.read() as session:
        document = study_detail(session, cut.StudyInstanceUID)
    assert (document["ai_status"], document["failure_acknowledged_at"]) == ("failed", None)


def test_a_failure_stays_until_somebody_acknowledges_it(pipeline: Pipeline, database_url: str, tmp_path: Path) -> None:
    cut = unreadable(pipeline)
    work_off(pipeline)
    with pytest.raises(NotFound, match="no study"):
        acknowledge(pipeline, "1.2.3")
    assert list(retention(pipeline, floor=1 << 60).run()) == []
    assert retention(pipeline).review().kept["failed_not_acknowledged"] == 1
    acknowledge(pipeline, cut.StudyInstanceUID)
    late = arrive(pipeline, StudyInstanceUID=cut.StudyInstanceUID)
    work_off(pipeline)
    assert list(retention(pipeline).run()) == []  # what has come since has been seen by nobody
    with pipeline.database.read() as session:  # nor does anybody read that it was
        assert study_detail(session, cut.StudyInstanceUID)["failure_acknowledged_at"] is None
    acknowledge(pipeline, late.StudyInstanceUID)
    with pipeline.database.read() as session:
        assert study_detail(session, cut.StudyInstanceUID)["failure_acknowledged_by"] is not None
    assert uids(retention(pipeline).run()) == [cut.StudyInstanceUID]
    assert accounted(database_url, tmp_path)["unaccounted"] == []
    (given_up,) = quarantine_list(pipeline.database)
    with pytest.raises(BytesRemoved, match="removed by retention on 2"):
        quarantine_retry(pipeline, given_up.id)
    good = arrive(pipeline)
    work_off(pipeline)
    with pytest.raises(NotFound, match="has failed"):
        acknowledge(pipeline, good.StudyInstanceUID)


def test_what_is_asked_for_after_the_removal_is_told_so(pipeline: Pipeline, database_url: str, tmp_path: Path) -> None:
    ds = arrive(pipeline)
    work_off(pipeline)
    assert uids(retention(pipeline).run()) == [ds.StudyInstanceUID]
    with pytest.raises(BytesRemoved, match="removed by retention on 2"):
        reprocess(pipeline, ds.StudyInstanceUID)
    assert resend(pipeline, ds.StudyInstanceUID, [PACS]) == [str(PACS)]  # reports are kept
    pipeline.deliver()
    late = arrive(pipeline, StudyInstanceUID=ds.StudyInstanceUID)
    work_off(pipeline)
    assert late is not ds
    with pipeline.database.read() as session:
        assert session.exec(select(Study)).one().generation == 2
        for report in session.exec(select(Report)):
            assert pydicom.dcmread(pipeline.reports.reports_dir / report.path).PatientID == "P1"
    sums = accounted(database_url, tmp_path)
    assert (sums["accepted"], sums["complete"], sums["removed_by_retention"], sums["unaccounted"]) == (2, 2, 1, [])
    assert reprocess(pipeline, ds.StudyInstanceUID) == 1  # the one whose bytes are there


def test_a_resend_brings_removed_bytes_back_and_its_age_counts_anew(
    pipeline: Pipeline, database_url: str, tmp_path: Path
) -> None:
    ds = arrive(pipeline)
    work_off(pipeline)
    assert uids(retention(pipeline).run()) == [ds.StudyInstanceUID]
    came_long_ago(pipeline)
    spool_object(pipeline.spool, ds)
    work_off(pipeline)
    (instance,) = instances(pipeline)
    assert (instance.removal_began_at, instance.bytes_removed_at) == (None, None)
    assert pydicom.dcmread(pipeline.spool.filed_path(instance.spool_name)) == ds
    sums = accounted(database_url, tmp_path)
    assert (sums["accepted"], sums["complete"], sums["removed_by_retention"], sums["unaccounted"]) == (1, 1, 0, [])
    assert list(retention(pipeline, later=timedelta()).run()) == [], "it has just come"
    assert reprocess(pipeline, ds.StudyInstanceUID) == 1
    work_off(pipeline)
    assert uids(retention(pipeline).run()) == [ds.StudyInstanceUID]
    said = col(AuditEvent.action).in_(("bytes.removed", "instance.restored"))
    with pipeline.database.read() as session:
        told = session.exec(select(AuditEvent.action).where(said).order_by(col(AuditEvent.id))).all()
    assert told == ["bytes.removed", "instance.restored", "bytes.removed"]


def test_what_comes_back_while_it_is_being_removed_stays(
    pipeline: Pipeline, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds, other = arrive(pipeline), arrive(pipeline)
    work_off(pipeline)
    remove = pipeline.spool.remove

    def resent_meanwhile(names: list[str]) -> None:
        monkeypatch.setattr(pipeline.spool, "remove", remove)
        remove(names)
        spool_object(pipeline.spool, ds)
        work_off(pipeline)

    came_long_ago(pipeline)
    monkeypatch.setattr(pipeline.spool, "remove", resent_meanwhile)
    assert uids(retention(pipeline, later=timedelta()).run()) == [other.StudyInstanceUID]
    assert len(list(pipeline.spool.filed())) == 1
    sums = accounted(database_url, tmp_path)
    assert (sums["removed_by_retention"], sums["unaccounted"]) == (1, [])


@pytest.mark.parametrize("where", ["registered", "in the spool"])
def test_what_a_peer_waits_for_an_answer_about_stays(pipeline: Pipeline, where: str) -> None:
    ds, other = arrive(pipeline), arrive(pipeline)
    work_off(pipeline)
    ask_about(pipeline, str(ds.SOPInstanceUID), "1.2.3")
    (pipeline.spool.commitments_dir / f"{new_name()}.json").write_bytes(b"{")  # a damaged one keeps nothing
    if where == "registered":
        work_off(pipeline)
    soon = timedelta(days=2)
    assert uids(retention(pipeline, days=1, later=soon).run()) == [other.StudyInstanceUID]
    if where == "registered":
        assert retention(pipeline, days=1, later=soon).review().kept["owed"] == 1
        assert uids(retention(pipeline).run()) == [ds.StudyInstanceUID], "nobody holds bytes for ever"


def test_other_work_about_a_number_that_a_removed_study_has_is_done_again(pipeline: Pipeline) -> None:
    """Of storage commitment the number is that of a request."""
    arrive(pipeline, ViewPosition="LL")
    work_off(pipeline)
    assert len(list(retention(pipeline).run())) == 1
    ask_about(pipeline, "1.2.3")
    work_off(pipeline)
    with pipeline.database.write() as session:
        work = session.exec(select(WorkItem).where(WorkItem.kind == WorkKind.COMMIT)).one()
        assert work.subject_id == session.exec(select(Study.id)).one()
        work.state, work.finished_at = WorkState.QUARANTINED, utc_now()
        number = work.id or 0
    assert quarantine_retry(pipeline, number).kind == "commit"


def test_the_oldest_go_before_their_time_while_space_is_short(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from structlog.testing import capture_logs

    studies = [arrive(pipeline) for _ in range(4)]
    work_off(pipeline)
    free = [100]
    monkeypatch.setattr(pipeline.spool, "free_bytes", lambda: free[0])
    rule = retention(pipeline, days=0, floor=300, later=timedelta())
    removed = []
    with capture_logs() as logs:
        for one in rule.run():
            removed.append(one)
            free[0] += 100
    assert [(one.study_instance_uid, one.because) for one in removed] == [
        (ds.StudyInstanceUID, "space") for ds in studies[:2]
    ]
    assert [entry["log_level"] for entry in logs if entry["event"].startswith("retention_floor")] == ["warning"]
    with capture_logs() as logs:
        free[0] = 0
        assert len(list(rule.run())) == 2
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["retention_floor_not_reached"]


DIES = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from tests.support.fakes import make_pipeline
from worker.database import utc_now
from worker.intake.spool import Spool
from worker.retention.removal import Retention
pipeline = make_pipeline(sys.argv[1], Path(sys.argv[2]))
remove = Spool.remove
def die(spool, names):
    remove(spool, names[: int(sys.argv[3])])
    os.kill(os.getpid(), signal.SIGKILL)
Spool.remove = die
rule = Retention(pipeline.database, pipeline.spool, pipeline.previews_dir, pipeline.record, days=30, floor_bytes=0,
                 clock=lambda: utc_now() + timedelta(days=40))
list(rule.run())
"""


@pytest.mark.parametrize("unlinked", [0, 1, 2])
def test_a_kill_between_row_and_unlink_leaves_nothing_unaccounted(
    pipeline: Pipeline, database_url: str, tmp_path: Path, unlinked: int
) -> None:
    ds = arrive(pipeline)
    arrive(pipeline, StudyInstanceUID=ds.StudyInstanceUID)
    work_off(pipeline)
    script = [sys.executable, "-c", DIES, database_url, str(tmp_path), str(unlinked)]
    killed = subprocess.run(script, check=False, env=os.environ | {"PYTHONPATH": "."})
    assert killed.returncode == -signal.SIGKILL
    assert len(list(pipeline.spool.filed())) == 2 - unlinked
    sums = accounted(database_url, tmp_path)
    assert (sums["complete"], sums["removed_by_retention"], sums["unaccounted"]) == (2, 2, [])
    assert [one.bytes_removed_at for one in instances(pipeline)] == [None, None]
    spool_object(pipeline.spool, ds)
    work_off(pipeline)  # a resend meanwhile is kept, and what is left of the first bytes is not
    (finished,) = retention(pipeline, later=timedelta()).run()
    assert finished.instances == 1
    assert len(list(pipeline.spool.filed())) == 1
    assert [one.bytes_removed_at is None for one in instances(pipeline)] == [True, False]
    assert accounted(database_url, tmp_path)["unaccounted"] == []
    with pipeline.database.read() as session:
        assert len(session.exec(select(AuditEvent).where(AuditEvent.action == "bytes.removed")).all()) == 1


def test_what_came_while_it_was_listed_is_asked_about_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = arrive(pipeline), arrive(pipeline)
    work_off(pipeline)
    run = retention(pipeline).run()
    assert next(run).study_instance_uid == first.StudyInstanceUID
    arrive(pipeline, StudyInstanceUID=second.StudyInstanceUID)
    pipeline.register_arrivals()
    assert list(run) == []
    assert len(list(pipeline.spool.filed())) == 2


def test_what_the_disk_will_not_let_go_holds_up_no_other_study(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = arrive(pipeline), arrive(pipeline)
    work_off(pipeline)
    name = next(one.spool_name for one in instances(pipeline) if one.sop_instance_uid == stuck.SOPInstanceUID)
    remove = pipeline.spool.remove

    def refused(names: list[str]) -> None:
        if name in names:
            raise PermissionError(13, "Permission denied")
        remove(names)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.spool, "remove", refused)
        assert uids(retention(pipeline).run()) == [other.StudyInstanceUID]
        assert list(pipeline.spool.filed()) == [name]
    assert uids(retention(pipeline).run()) == [stuck.StudyInstanceUID]
