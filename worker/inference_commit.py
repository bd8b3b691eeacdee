"""The commit of a batch: predictions, audit events, the state of the studies, the owed reports; all or nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from worker import metrics
from worker.database import (
    Instance,
    InstanceStatus,
    ModelVersion,
    Prediction,
    Study,
    WorkItem,
    WorkKind,
    WorkState,
    is_owed,
    utc_now,
)
from worker.errors import FirstreadError, Never, PackageError
from worker.inference.classify import Outcome
from worker.inference.environment import environment
from worker.intake.registration import Record
from worker.intake.work import Claim, Failure, Owed, Work, lease_lost
from worker.logs import get_logger
from worker.study_state import all_written, refresh_all

if TYPE_CHECKING:
    from models.card import Card
    from models.classifier import Classifier

log = get_logger(__name__)


class InferenceCommit:
    """Writes what came of a batch.

    Parameters
    ----------
    record
        Appends an audit event: (session, action, subject, detail).
    quiet_seconds
        How long a study must have been quiet before it is reported.
    """

    def __init__(self, work: Work, record: Record, quiet_seconds: float) -> None:
        self.work = work
        self.record = record
        self.quiet = timedelta(seconds=quiet_seconds)

    def commit(self, claims: Sequence[Claim], outcomes: Sequence[Outcome], classifier: "Classifier") -> None:
        """Write the outcomes of the claims that are still ours, in one transaction.

        It takes as many statements for a batch as for one image.
        """
        subjects = [claim.subject_id for claim in claims]
        with self.work.database.write() as session:
            # The studies are locked in one order, so that two workers with results of one study cannot both believe
            # that the other's is still missing, nor wait for each other for ever. What they hold is read after that.
            studies = session.exec(
                select(Study)
                .where(col(Study.id).in_(select(Instance.study_id).where(col(Instance.id).in_(subjects))))
                .order_by(col(Study.id))
                .with_for_update()
            ).all()
            version = self.model_version(session, classifier.card)
            ours = self._end(session, claims, outcomes)
            kept = [pair for pair in zip(claims, outcomes, strict=True) if pair[0].id in ours]
            instances = self._write(session, kept, classifier, version.id or 0)
            with session.no_autoflush:  # the instances are written once, whole
                self.settle_instances(session, instances)
            refresh_all(session, studies)
            self.owe_reports(session, studies)
        _count([outcome for _, outcome in kept], classifier)

    def _end(self, session: Session, claims: Sequence[Claim], outcomes: Sequence[Outcome]) -> set[int]:
        """End the claims that are still ours, each as its outcome says; return the numbers of their work."""
        done, failed = [], []
        for claim, outcome in zip(claims, outcomes, strict=True):
            if outcome.probabilities is not None:
                done.append(claim)
            else:
                failed.append(Failure(claim, str(_error(outcome)), final=self._is_final(claim, outcome)))
        ours = self.work.finish_all(session, done) | self.work.fail_all(session, failed)
        for claim in claims:
            if claim.id not in ours:
                log.warning("result_dropped", work=claim.id, error=str(lease_lost(claim)))
        return ours

    def _is_final(self, claim: Claim, outcome: Outcome) -> bool:
        return isinstance(_error(outcome), Never) or self.work.exhausted(claim)

    def _write(
        self, session: Session, kept: Sequence[tuple[Claim, Outcome]], classifier: "Classifier", version_id: int
    ) -> list[Instance]:
        """Write predictions, what failed, and the audit events of both; return the instances that are to be settled."""
        of_this_version = sa.and_(
            col(Prediction.instance_id) == col(Instance.id), col(Prediction.model_version_id) == version_id
        )
        found = session.execute(
            sa.select(Instance, col(Prediction.id))
            .outerjoin(Prediction, of_this_version)
            .where(col(Instance.id).in_([claim.subject_id for claim, _ in kept]))
        ).all()
        instances = {instance.id or 0: instance for instance, _ in found}
        earlier = {instance.id or 0: prediction for instance, prediction in found if prediction is not None}
        rows = _rows(kept, classifier, version_id)
        predictions = earlier | _predict(session, rows, earlier)
        settled: list[Instance] = []
        for claim, outcome in kept:
            instance = instances[claim.subject_id]
            if outcome.probabilities is not None:
                if outcome.note:
                    notes = (*filter(None, instance.remark.split("; ")), outcome.note)
                    instance.remark = "; ".join(dict.fromkeys(notes))
                row = rows[claim.subject_id]
                action = "prediction.remade" if claim.subject_id in earlier else "prediction.made"
                said = _said(predictions[claim.subject_id], instance, row, classifier.card)
                self.record(session, action, instance.sop_instance_uid, said)
            elif self._is_final(claim, outcome):
                self._fail(session, instance, str(_error(outcome)), claim.lane)
            else:
                error = str(_error(outcome))
                log.warning("inference_put_off", instance=instance.sop_instance_uid, error=error)
                continue
            settled.append(instance)
        return settled

    def settle_instance(self, session: Session, instance: Instance) -> None:
        """Set the status of an instance from what is owed, done and given up for it."""
        self.settle_instances(session, [instance])

    def settle_instances(self, session: Session, instances: Sequence[Instance]) -> None:
        """Set the status of instances, each from what is owed, done and given up for it."""
        if not instances:
            return
        states: dict[int, set[str]] = defaultdict(set)
        query = select(WorkItem.subject_id, WorkItem.state).where(
            WorkItem.kind == WorkKind.INFER,
            col(WorkItem.subject_id).in_([instance.id for instance in instances]),
        )
        for subject_id, state in session.exec(query):
            states[subject_id].add(state)
        for instance in instances:
            found = states[instance.id or 0]
            if found & {WorkState.OWED, WorkState.LEASED}:
                instance.status = InstanceStatus.PENDING
            elif WorkState.QUARANTINED in found:
                instance.status = InstanceStatus.FAILED
            else:
                instance.status, instance.reason = InstanceStatus.CLASSIFIED, ""
            all_written(instance, "status", "reason", "remark")
            session.add(instance)

    def fail_instance(self, session: Session, instance: Instance, reason: str, model: str) -> None:
        """Mark an instance failed for good, visibly and in the audit log."""
        self._fail(session, instance, reason, model)
        self.settle_instance(session, instance)

    def _fail(self, session: Session, instance: Instance, reason: str, model: str) -> None:
        instance.reason = reason
        session.get_one(Study, instance.study_id).failure_acknowledged_at = None  # nobody has seen this one yet
        self.record(session, "inference.failed", instance.sop_instance_uid, {"reason": reason, "model": model})
        metrics.quarantined.labels(kind=WorkKind.INFER).inc()
        log.warning("inference_failed", instance=instance.sop_instance_uid, model=model, reason=reason)

    def owe_report(self, session: Session, study: Study) -> None:
        """Owe the next report of a study, as `owe_reports` does."""
        self.owe_reports(session, [study])

    def owe_reports(self, session: Session, studies: Sequence[Study]) -> None:
        """Owe the next report of each study of which nothing is pending; it waits until the study is quiet.

        Their state is as `refresh` has just found it.
        """
        owed = [
            Owed(f"study {study.id} generation {study.generation + 1}", study.id or 0, "", self.quiet_at(study))
            for study in studies
            if study.ai_status != InstanceStatus.PENDING
        ]
        self.work.owe_all(session, WorkKind.REPORT, owed)

    def quiet_at(self, study: Study) -> datetime:
        """Return when a study will have been quiet for long enough; the clock may have been stepped back since."""
        return min(study.last_received_at, self.work.clock()) + self.quiet

    def hold_reports(self, session: Session, studies: Sequence[Study]) -> None:
        """Let the owed reports of studies wait: these have just received something."""
        if not studies:
            return
        session.connection().execute(
            sa.update(WorkItem)
            .where(
                col(WorkItem.kind) == WorkKind.REPORT,
                col(WorkItem.subject_id) == sa.bindparam("of_study"),
                is_owed(),
            )
            .values(not_before=sa.bindparam("quiet_at")),
            [{"of_study": study.id, "quiet_at": self.quiet_at(study)} for study in studies],
        )

    def model_version(self, session: Session, card: "Card") -> ModelVersion:
        """Return the row of a model, made when it first classifies here.

        Raises
        ------
        PackageError
            When other weights, or another ONNX file, have classified under this name and version before.
        """
        version = session.exec(
            select(ModelVersion).where(ModelVersion.name == card.name, ModelVersion.version == card.version)
        ).one_or_none()
        if version is None:
            version = ModelVersion(
                name=card.name,
                version=card.version,
                weights_sha256=card.weights_sha256,
                card=card.model_dump(mode="json"),
            )
            session.add(version)
            session.flush()
        elif version.weights_sha256 != card.weights_sha256:
            raise PackageError(
                f"{card.identifier}: its weights are not those that classified under this version before; "
                "give the package a new version"
            )
        if card.onnx is not None:
            _same_onnx(version, card)
        return version


def _same_onnx(version: ModelVersion, card: "Card") -> None:
    """Note a package's ONNX file when it has first gained one; from then on it is that one."""
    now = card.model_dump(mode="json")["onnx"]
    before = version.card.get("onnx")
    if before is None:
        version.card = {**version.card, "onnx": now}
    elif before["sha256"] != now["sha256"]:
        raise PackageError(
            f"{card.identifier}: its ONNX file is not the one that this version came with before; put that back, or "
            "give the package a new version"
        )


def _error(outcome: Outcome) -> FirstreadError:
    return outcome.error or Never("no outcome")


def _rows(
    kept: Sequence[tuple[Claim, Outcome]], classifier: "Classifier", version_id: int
) -> dict[int, dict[str, Any]]:
    """Return the rows of the predictions, by the number of the instance."""
    card = classifier.card
    of_all = {
        "model_version_id": version_id,
        "thresholds": {label.name: label.threshold for label in card.labels if label.threshold is not None},
        "engine": classifier.engine,
        "device": classifier.device,
        "environment": environment(card, classifier.engine),
    }
    return {
        claim.subject_id: {
            **of_all,
            "instance_id": claim.subject_id,
            "probabilities": outcome.probabilities,
            "flagged": card.flagged(outcome.probabilities),
            "recipe": outcome.recipe,
            "batch_size": outcome.batch_size,
            "decode_seconds": outcome.decode_seconds,
            "inference_seconds": outcome.inference_seconds,
            "created_at": utc_now(),
        }
        for claim, outcome in kept
        if outcome.probabilities is not None
    }


def _predict(session: Session, rows: Mapping[int, dict[str, Any]], earlier: Mapping[int, int]) -> dict[int, int]:
    """Write predictions, new or in the place of earlier ones; return the numbers of the new ones by instance."""
    remade = [{**row, "id": earlier[instance]} for instance, row in rows.items() if instance in earlier]
    if remade:
        session.execute(sa.update(Prediction), remade)
    made = [row for instance, row in rows.items() if instance not in earlier]
    if not made:
        return {}
    insert = sa.insert(Prediction).returning(col(Prediction.instance_id), col(Prediction.id))
    return {instance: number or 0 for instance, number in session.execute(insert, made)}


def _said(prediction: int, instance: Instance, row: Mapping[str, Any], card: "Card") -> dict[str, Any]:
    """Return what the audit event of a prediction says."""
    of_row = ("recipe", "engine", "device", "batch_size", "probabilities", "thresholds", "flagged", "environment")
    return {
        "prediction": prediction,
        "instance": instance.id,
        "instance_sha256": instance.sha256,
        "model": card.identifier,
        "weights_sha256": card.weights_sha256,
        **{name: row[name] for name in of_row},
    }


def _count(outcomes: Sequence[Outcome], classifier: "Classifier") -> None:
    name, version = classifier.card.name, classifier.card.version
    for outcome in outcomes:
        metrics.stage_seconds.labels(stage="decode").observe(outcome.decode_seconds)
        if outcome.probabilities is None:
            continue
        metrics.stage_seconds.labels(stage="inference").observe(outcome.inference_seconds)
        flagged = classifier.card.flagged(outcome.probabilities)
        for label, probability in outcome.probabilities.items():
            labels = {"model": name, "version": version, "label": label}
            metrics.predictions.labels(**labels, flagged=str(label in flagged).lower()).inc()
            metrics.prediction_probability.labels(**labels).observe(probability)
