"""Registration: an object of the spool becomes rows and owed work.

Idempotent on SOP Instance UID and the digest of the data set: an identical resend changes nothing; the same UID with
other bytes is an instance of its own, failed, and shown. Whatever is wrong with an object is written down as its
reason; nothing is dropped and nothing is tried for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from worker.database import Instance, InstanceStatus, Series, Study, WorkKind
from worker.intake.defined_terms import MODALITIES
from worker.intake.header_text import code, text
from worker.intake.headers import StoredObject
from worker.intake.routing import Router
from worker.intake.spool import received_at
from worker.intake.work import Work
from worker.uids import derived_uid, is_uid

NO_IMAGES = ("", "SR", "PR", "KO", "DOC")
"""Modalities that say nothing of the study: that of its first image does."""

ATTRIBUTES = frozenset(
    """
    StudyInstanceUID SeriesInstanceUID SOPInstanceUID SOPClassUID PatientID PatientName AccessionNumber Modality
    StudyDescription SeriesDescription BodyPartExamined
    """.split()
)
"""Keywords of what is written down of an object."""

Record = Callable[[Session, str, str, Mapping[str, Any]], object]
"""Writes an audit event: (session, action, subject, detail)."""


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
    fresh
        Instances that are new, with the Modality each says it has.
    models
        `name@version` of the models that were given something to do.
    """

    whole: frozenset[str] = frozenset()
    file_away: list[str] = field(default_factory=list)
    discard: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    studies: dict[int, Study] = field(default_factory=dict)
    fresh: list[tuple[Instance, str]] = field(default_factory=list)
    models: set[str] = field(default_factory=set)


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
        query = select(Instance.spool_name, Instance.sha256).where(
            col(Instance.sop_instance_uid).in_(uids),
            col(Instance.dataset_sha256).in_(digests),
            col(Instance.removal_began_at).is_(None),
        )
        names = {name for name, _ in arrivals}  # registered before a crash: not sent again
        twins = [(name, sha256) for name, sha256 in session.exec(query) if name not in names]
        return frozenset(name for name, sha256 in twins if self.is_whole(name, sha256))

    def lock_studies(self, session: Session, arrivals: Sequence[tuple[str, StoredObject]]) -> None:
        """Lock the studies of a batch that are there already, in the one order that everybody keeps."""
        uids = {text(stored.header, "StudyInstanceUID") for _, stored in arrivals}
        uids |= {derived_uid("stand-in", "study", stored.dataset_sha256) for _, stored in arrivals}
        session.exec(
            select(Study.id).where(col(Study.study_instance_uid).in_(uids)).order_by(col(Study.id)).with_for_update()
        ).all()

    def register(self, session: Session, name: str, stored: StoredObject, done: Registered) -> None:
        """Register one object of the spool in the caller's transaction."""
        sop_instance_uid = stored.sop_instance_uid
        if not is_uid(sop_instance_uid):
            sop_instance_uid = derived_uid("stand-in", "instance", stored.dataset_sha256)
        if session.exec(select(Instance.id).where(Instance.spool_name == name)).first() is not None:
            done.file_away.append(name)  # committed before a crash that came before the move
            return
        namesakes = session.exec(select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)).all()
        twin = next((one for one in namesakes if one.dataset_sha256 == stored.dataset_sha256), None)
        if twin is not None:
            self._resent(session, twin, name, stored, done)
            return

        study, study_remark = self._study(session, name, stored)
        series = self._series(session, study, stored)
        verdict = self._judge(stored, study, conflict=bool(namesakes))
        instance = Instance(
            study_id=_id(study),
            series_id=_id(series),
            sop_instance_uid=sop_instance_uid,
            sop_class_uid=stored.sop_class_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            dataset_sha256=stored.dataset_sha256,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            calling_ae=stored.calling_ae,
            received_at=received_at(name),
            spool_name=name,
            patient_id=text(stored.header, "PatientID"),
            status=verdict.status,
            reason=verdict.reason,
            reportable=verdict.reportable,
            remark="; ".join(part for part in (study_remark, verdict.remark) if part),
        )
        session.add(instance)
        session.flush()
        for model in verdict.models:
            self.work.owe(
                session,
                WorkKind.INFER,
                f"instance {instance.id} {model}",
                _id(instance),
                lane=model,
                not_before=min(instance.received_at, self.work.clock()),  # the clock may have been stepped back since
            )
        done.models.update(verdict.models)
        self.record(
            session,
            "instance.registered",
            instance.sop_instance_uid,
            {
                "instance": instance.id,
                "study": study.study_instance_uid,
                "sha256": instance.sha256,
                "calling_ae": instance.calling_ae,
                "received_at": instance.received_at.isoformat(),
                "status": verdict.status,
                "reason": verdict.reason,
                "models": list(verdict.models),
            },
        )
        study.last_received_at = max(study.last_received_at, instance.received_at)
        study.failure_acknowledged_at = None  # nobody has seen this one yet
        session.add(study)
        done.file_away.append(name)
        done.studies[_id(study)] = study
        modality = text(stored.header, "Modality", 16)
        done.fresh.append((instance, modality if modality in MODALITIES else "other"))

    def _resent(self, session: Session, twin: Instance, name: str, stored: StoredObject, done: Registered) -> None:
        """Keep the first bytes where they are whole; else these, which are the same, take their place.

        The first may be gone (a lost disk, a careless hand), rotten, or removed by retention: who sends an object again
        wants it to be here, and its age counts anew.
        """
        kept = twin.removal_began_at is None
        if kept and (twin.spool_name in done.whole or self.is_whole(twin.spool_name, twin.sha256)):
            done.discard.append(name)
            return
        done.replaced.append(twin.spool_name)
        twin.spool_name, twin.sha256, twin.size_bytes = name, stored.sha256, stored.size_bytes
        twin.removal_began_at = twin.bytes_removed_at = None
        session.add(twin)
        for item in self.work.given_up(session, WorkKind.INFER, _id(twin)):
            self.work.reopen(item, min(received_at(name), self.work.clock()))
            twin.status, twin.reason = InstanceStatus.PENDING, ""
            done.models.add(item.lane)
        study = session.exec(select(Study).where(Study.id == twin.study_id)).one()
        study.last_received_at = max(study.last_received_at, received_at(name))
        session.add(study)
        done.studies[_id(study)] = study
        self.record(session, "instance.restored", twin.sop_instance_uid, {"instance": twin.id, "sha256": stored.sha256})
        done.file_away.append(name)

    def _study(self, session: Session, name: str, stored: StoredObject) -> tuple[Study, str]:
        uid, remark = text(stored.header, "StudyInstanceUID"), ""
        if not is_uid(uid):
            said = f"{quotable_uid(uid)} is no UID" if uid else "absent"
            uid = derived_uid("stand-in", "study", stored.dataset_sha256)
            remark = f"StudyInstanceUID {said}: a stand-in was made from the digest of the data set"
        study = session.exec(select(Study).where(Study.study_instance_uid == uid)).one_or_none()
        if study is None:
            moment = received_at(name)
            study = Study(
                study_instance_uid=uid,
                patient_id=text(stored.header, "PatientID"),
                patient_name=text(stored.header, "PatientName"),
                accession_number=text(stored.header, "AccessionNumber"),
                modality=text(stored.header, "Modality", 16),
                study_description=text(stored.header, "StudyDescription"),
                received_at=moment,
                last_received_at=moment,
                remark=remark,
            )
            session.add(study)
            session.flush()
        elif text(stored.header, "PatientID") and not study.patient_id:
            _identify(study, stored)
            remark = "; ".join(filter(None, (remark, "an earlier object of the study has no PatientID")))
        if study.modality in NO_IMAGES:
            study.modality = text(stored.header, "Modality", 16) or study.modality
        return study, remark

    def _series(self, session: Session, study: Study, stored: StoredObject) -> Series:
        uid = text(stored.header, "SeriesInstanceUID")
        if not is_uid(uid):
            uid = derived_uid("stand-in", "series", study.study_instance_uid, stored.dataset_sha256)
        series = session.exec(
            select(Series).where(Series.study_id == study.id, Series.series_instance_uid == uid)
        ).one_or_none()
        if series is None:
            series = Series(
                study_id=_id(study),
                series_instance_uid=uid,
                modality=text(stored.header, "Modality", 16),
                series_description=text(stored.header, "SeriesDescription"),
                body_part_examined=text(stored.header, "BodyPartExamined", 64),
            )
            session.add(series)
            session.flush()
        return series

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


def quotable_uid(said: str) -> str:
    """Return what stands for a UID as a message may quote it; of what has other characters nobody knows what it is."""
    return repr(said[:64]) if set(said) <= set("0123456789.") else "its value"


def _identify(study: Study, stored: StoredObject) -> None:
    """Fill in what the objects of a study that came before did not say; what they said stays."""
    study.patient_id = text(stored.header, "PatientID")
    study.patient_name = study.patient_name or text(stored.header, "PatientName")
    study.accession_number = study.accession_number or text(stored.header, "AccessionNumber")
    study.study_description = study.study_description or text(stored.header, "StudyDescription")


def _id(row: Study | Series | Instance) -> int:
    if row.id is None:
        raise RuntimeError(f"{type(row).__name__} was not flushed")
    return row.id
