"""Registration: an object of the spool becomes rows and owed work.

Idempotent on SOP Instance UID and the digest of the data set: an identical resend changes nothing; the same UID with
other bytes is an instance of its own, failed, and shown. Whatever is wrong with an object is written down as its
reason; nothing is dropped and nothing is tried for ever.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, select

from worker.database import Instance, InstanceStatus, Study, WorkKind
from worker.intake.defined_terms import MODALITIES
from worker.intake.described import Described, described, quotable_uid
from worker.intake.header_text import code, text
from worker.intake.headers import StoredObject
from worker.intake.routing import Router
from worker.intake.rows import (
    begin_studies,
    id_of,
    insert_instances,
    known_of,
    locked_studies,
    registered_twins,
    series_of,
    take_in,
    twins_of,
)
from worker.intake.work import Owed, Work

ATTRIBUTES = frozenset(
    """
    StudyInstanceUID SeriesInstanceUID SOPInstanceUID SOPClassUID PatientID PatientName AccessionNumber Modality
    StudyDescription SeriesDescription BodyPartExamined
    """.split()
)
"""Keywords of what is written down of an object."""

Record = Callable[[Session, str, str, Mapping[str, Any]], object]
"""Writes an audit event: (session, action, subject, detail)."""

Event = tuple[str, str, dict[str, Any]]
"""Action, subject and detail of an audit event."""


@dataclass(frozen=True)
class Fresh:
    """An instance that is new; `modality` is what it says it has, `other` where that is no defined term."""

    study_id: int
    sop_instance_uid: str
    calling_ae: str
    status: InstanceStatus
    reason: str
    reportable: bool
    modality: str


@dataclass
class Registered:
    """What a batch of registrations asks of the caller, once it is committed.

    Attributes
    ----------
    whole
        Spool names of registered objects whose bytes were read again just now, and are those that were registered.
    file_away, discard
        Spool names to move to the filed objects, or to remove as identical resends.
    replaced
        Spool names whose bytes are worth nothing any more: a resend takes their place.
    studies
        Studies whose state changed.
    begun
        Numbers of those that are new.
    fresh
        Instances that are new.
    models
        `name@version` of the models that were given something to do, and how much.
    """

    whole: frozenset[str] = frozenset()
    file_away: list[str] = field(default_factory=list)
    discard: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    studies: dict[int, Study] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    fresh: list[Fresh] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Verdict:
    """What registration makes of an object."""

    status: InstanceStatus
    reason: str = ""
    remark: str = ""
    models: tuple[str, ...] = ()
    reportable: bool = False


class Registration:
    """Writes study, series and instance rows, and what is owed for them.

    Parameters
    ----------
    router
        Says which models an object goes to.
    work
        Where what is owed is written.
    record
        Writes the audit event of each new instance.
    is_whole
        Reads the bytes of a registered instance again, by its spool name, and says whether they have this SHA-256.
    """

    def __init__(self, router: Router, work: Work, record: Record, is_whole: Callable[[str, str], bool]) -> None:
        self.router = router
        self.work = work
        self.record = record
        self.is_whole = is_whole

    @property
    def keywords(self) -> frozenset[str]:
        """Of the attributes that registration and its routing rules look at."""
        return ATTRIBUTES | self.router.keywords

    def whole_twins(self, session: Session, arrivals: Sequence[tuple[str, StoredObject]]) -> frozenset[str]:
        """Return the spool names of registered objects that are sent again, and whose bytes are whole.

        They are read here, before anything is locked: a resend may be large.
        """
        digests = {stored.dataset_sha256 for _, stored in arrivals}
        uids = {stored.sop_instance_uid for _, stored in arrivals}  # what has a stand-in UID is read later
        names = {name for name, _ in arrivals}  # registered before a crash: not sent again
        twins = [twin for twin in registered_twins(session, uids, digests) if twin[0] not in names]
        return frozenset(name for name, sha256 in twins if self.is_whole(name, sha256))

    def register(self, session: Session, arrivals: Sequence[tuple[str, StoredObject]], done: Registered) -> None:
        """Register objects of the spool, in their order, in the caller's transaction.

        It takes as many statements for a batch as for one object; resends that take the place of something aside.
        """
        objects = [described(name, stored) for name, stored in arrivals]
        studies = locked_studies(session, objects)
        known, uids = known_of(session, objects)
        fresh: list[Described] = []
        resent: list[Described] = []
        conflicts: set[str] = set()
        for one in objects:
            if one.name in known:
                done.file_away.append(one.name)  # committed before a crash that came before the move
            elif one.stored.dataset_sha256 in uids[one.sop_instance_uid]:
                resent.append(one)
            else:
                if uids[one.sop_instance_uid]:
                    conflicts.add(one.name)
                uids[one.sop_instance_uid].add(one.stored.dataset_sha256)
                fresh.append(one)
        done.begun.update(begin_studies(session, fresh, studies))
        events = self._write(session, fresh, studies, conflicts, done)
        twins = twins_of(session, resent)
        for one in resent:
            events |= self._resent(session, one, twins[one.content], done)
        for one in objects:
            if one.name in events:
                self.record(session, *events[one.name])

    def _write(
        self,
        session: Session,
        fresh: Sequence[Described],
        studies: Mapping[str, Study],
        conflicts: Collection[str],
        done: Registered,
    ) -> dict[str, Event]:
        """Write the rows of new instances, and what is owed for them; return the audit events by spool name."""
        series = series_of(session, fresh, studies)
        rows: list[dict[str, Any]] = []
        verdicts: list[Verdict] = []
        for one in fresh:
            study = studies[one.study_instance_uid]
            remark = take_in(study, one)
            verdict = self._judge(one.stored, study, conflict=one.name in conflicts)
            verdicts.append(verdict)
            rows.append(_row(one, study, series[id_of(study), one.series_instance_uid], verdict, remark))
        numbers = insert_instances(session, rows)
        events: dict[str, Event] = {}
        owed: list[Owed] = []
        for one, row, verdict in zip(fresh, rows, verdicts, strict=True):
            instance, study = numbers[one.name], studies[one.study_instance_uid]
            for model in verdict.models:
                # The clock may have been stepped back since.
                due = min(one.received_at, self.work.clock())
                owed.append(Owed(f"instance {instance} {model}", instance, model, due))
            done.models.update(verdict.models)
            events[one.name] = _registered(instance, row, study, verdict)
            newest = max(study.last_received_at, one.received_at)
            # What is as it was is not touched: the session would look at all of it to find that out.
            if newest != study.last_received_at:
                study.last_received_at = newest
            if study.failure_acknowledged_at is not None:
                study.failure_acknowledged_at = None  # nobody has seen this one yet
            done.file_away.append(one.name)
            done.studies[id_of(study)] = study
            done.fresh.append(_fresh(one, row))
        self.work.owe_all(session, WorkKind.INFER, owed)
        return events

    def _resent(self, session: Session, one: Described, twin: Instance, done: Registered) -> dict[str, Event]:
        """Keep the first bytes where they are whole; else these, which are the same, take their place.

        The first may be gone (a lost disk, a careless hand), rotten, or removed by retention: who sends an object again
        wants it to be here, and its age counts anew.
        """
        kept = twin.removal_began_at is None
        if kept and (twin.spool_name in done.whole or self.is_whole(twin.spool_name, twin.sha256)):
            done.discard.append(one.name)
            return {}
        done.replaced.append(twin.spool_name)
        twin.spool_name, twin.sha256, twin.size_bytes = one.name, one.stored.sha256, one.stored.size_bytes
        twin.removal_began_at = twin.bytes_removed_at = None
        session.add(twin)
        for item in self.work.given_up(session, WorkKind.INFER, id_of(twin)):
            self.work.reopen(item, min(one.received_at, self.work.clock()))
            twin.status, twin.reason = InstanceStatus.PENDING, ""
            done.models[item.lane] += 1
        study = session.exec(select(Study).where(Study.id == twin.study_id)).one()
        study.last_received_at = max(study.last_received_at, one.received_at)
        session.add(study)
        done.studies[id_of(study)] = study
        done.file_away.append(one.name)
        detail = {"instance": twin.id, "sha256": one.stored.sha256}
        return {one.name: ("instance.restored", twin.sop_instance_uid, detail)}

    def _judge(self, stored: StoredObject, study: Study, *, conflict: bool) -> Verdict:
        decision = self.router.decide(stored.header)
        wrong, ours = self._defect(stored, study, conflict=conflict)
        if wrong:
            return Verdict(
                InstanceStatus.FAILED, wrong, reportable=ours and stored.has_pixels and bool(decision.models)
            )
        if not stored.has_pixels:
            words = f"not an image: it holds no pixel data (Modality {code(stored.header, 'Modality')})"
            return Verdict(InstanceStatus.NOT_ELIGIBLE, words)
        if not decision.models:
            return Verdict(InstanceStatus.NOT_ELIGIBLE, decision.reason)
        remark = decision.remark
        if text(stored.header, "PatientID") != study.patient_id:
            remark = "; ".join(filter(None, (remark, "it has no PatientID, others of the study have one")))
        return Verdict(InstanceStatus.PENDING, remark=remark, models=decision.models, reportable=True)

    @staticmethod
    def _defect(stored: StoredObject, study: Study, *, conflict: bool) -> tuple[str, bool]:
        """Return what is wrong, and whether the object is this study's all the same."""
        header = stored.header
        patient_id = text(header, "PatientID")
        if patient_id and study.patient_id and patient_id != study.patient_id:  # first: it is not this study's at all
            return (
                "PatientID conflict: the study was received with another PatientID before; not merged. "
                "Correct it at the modality and send the study again",
                False,
            )
        if stored.defect:
            return stored.defect, True
        if conflict:
            return "UID conflict: another object with this SOP Instance UID and other bytes was received before", True
        said = text(header, "SOPInstanceUID")
        if said and said != stored.sop_instance_uid:
            words = f"the data set says SOP Instance UID {quotable_uid(said)}, the request {stored.sop_instance_uid}"
            return f"{words}; the sender disagrees with itself: send it again from its source", False
        sop_class = text(header, "SOPClassUID")
        if sop_class and sop_class != stored.sop_class_uid:
            words = f"the data set says SOP Class UID {quotable_uid(sop_class)}, the request {stored.sop_class_uid}"
            return f"{words}; the sender disagrees with itself: send it again from its source", False
        return "", True


def _row(one: Described, study: Study, series_id: int, verdict: Verdict, remark: str) -> dict[str, Any]:
    stored = one.stored
    return {
        "study_id": id_of(study),
        "series_id": series_id,
        "sop_instance_uid": one.sop_instance_uid,
        "sop_class_uid": stored.sop_class_uid,
        "transfer_syntax_uid": stored.transfer_syntax_uid,
        "dataset_sha256": stored.dataset_sha256,
        "sha256": stored.sha256,
        "size_bytes": stored.size_bytes,
        "calling_ae": stored.calling_ae,
        "received_at": one.received_at,
        "spool_name": one.name,
        "patient_id": one.text("PatientID"),
        "status": verdict.status,
        "reason": verdict.reason,
        "reportable": verdict.reportable,
        "remark": "; ".join(part for part in (remark, verdict.remark) if part),
    }


def _registered(instance: int, row: Mapping[str, Any], study: Study, verdict: Verdict) -> Event:
    """Return the audit event of a new instance."""
    detail = {
        "instance": instance,
        "study": study.study_instance_uid,
        "sha256": row["sha256"],
        "calling_ae": row["calling_ae"],
        "received_at": row["received_at"].isoformat(),
        "status": verdict.status,
        "reason": verdict.reason,
        "models": list(verdict.models),
    }
    return "instance.registered", row["sop_instance_uid"], detail


def _fresh(one: Described, row: Mapping[str, Any]) -> Fresh:
    modality = one.text("Modality", 16)
    said = {name: row[name] for name in Fresh.__dataclass_fields__ if name != "modality"}
    return Fresh(**said, modality=modality if modality in MODALITIES else "other")
