"""The commit of a batch: predictions, audit events, the state of the studies, the owed reports; all or nothing."""

from collections.abc import Sequence
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
    utc_now,
)
from worker.errors import LeaseLost, Never, PackageError
from worker.inference.classify import Outcome
from worker.inference.environment import environment
from worker.intake.registration import Record
from worker.intake.work import Claim, Work
from worker.logs import get_logger
from worker.study_state import refresh

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
        """Write the outcomes of the claims that are still ours, in one transaction."""
        subjects = [claim.subject_id for claim in claims]
        settled: list[Outcome] = []
        with self.work.database.write() as session:
            # The studies are locked in one order, so that two workers with results of one study cannot both believe
            # that the other's is still missing, nor wait for each other for ever. What they hold is read after that.
            studies = session.exec(
                select(Study)
                .where(col(Study.id).in_(select(Instance.study_id).where(col(Instance.id).in_(subjects))))
                .order_by(col(Study.id))
                .with_for_update()
            ).all()
            held = session.exec(select(Instance).where(col(Instance.id).in_(subjects))).all()
            instances = {instance.id: instance for instance in held}
            self.model_version(session, classifier.card)
            for claim, outcome in zip(claims, outcomes, strict=True):
                try:
                    self._settle(session, claim, outcome, instances[claim.subject_id], classifier)
                except LeaseLost as error:
                    log.warning("result_dropped", work=claim.id, error=str(error))
                else:
                    settled.append(outcome)
            for study in studies:
                refresh(session, study)
                self.owe_report(session, study)
        _count(settled, classifier)

    def _settle(
        self,
        session: Session,
        claim: Claim,
        outcome: Outcome,
        instance: Instance,
        classifier: "Classifier",
    ) -> None:
        if outcome.probabilities is not None:
            self.work.finish(session, claim)
            self._predict(session, outcome, instance, classifier)
            self.settle_instance(session, instance)
            return
        error = outcome.error or Never("no outcome")
        if isinstance(error, Never) or self.work.exhausted(claim):
            self.work.quarantine(session, claim, str(error))
            self.fail_instance(session, instance, str(error), claim.lane)
        else:
            self.work.put_off(session, claim, str(error))
            log.warning("inference_put_off", instance=instance.sop_instance_uid, error=str(error))

    def _predict(
        self,
        session: Session,
        outcome: Outcome,
        instance: Instance,
        classifier: "Classifier",
    ) -> None:
        card = classifier.card
        probabilities = outcome.probabilities or {}
        version = self.model_version(session, card)
        prediction = session.exec(
            select(Prediction).where(Prediction.instance_id == instance.id, Prediction.model_version_id == version.id)
        ).one_or_none()
        again = prediction is not None
        values: dict[str, Any] = {
            "instance_id": instance.id,
            "model_version_id": version.id,
            "probabilities": probabilities,
            "thresholds": {label.name: label.threshold for label in card.labels if label.threshold is not None},
            "flagged": card.flagged(probabilities),
            "recipe": outcome.recipe,
            "engine": classifier.engine,
            "device": classifier.device,
            "batch_size": outcome.batch_size,
            "decode_seconds": outcome.decode_seconds,
            "inference_seconds": outcome.inference_seconds,
            "created_at": utc_now(),
            "environment": environment(card, classifier.engine),
        }
        if prediction is None:
            prediction = Prediction(**values)
        else:
            prediction.sqlmodel_update(values)
        session.add(prediction)
        session.flush()
        if outcome.note:
            instance.remark = "; ".join(dict.fromkeys([*filter(None, instance.remark.split("; ")), outcome.note]))
        self.record(
            session,
            "prediction.remade" if again else "prediction.made",
            instance.sop_instance_uid,
            {
                "prediction": prediction.id,
                "instance": instance.id,
                "instance_sha256": instance.sha256,
                "model": card.identifier,
                "weights_sha256": card.weights_sha256,
                "recipe": outcome.recipe,
                "engine": classifier.engine,
                "device": classifier.device,
                "batch_size": outcome.batch_size,
                "probabilities": probabilities,
                "thresholds": prediction.thresholds,
                "flagged": prediction.flagged,
                "environment": prediction.environment,
            },
        )

    def settle_instance(self, session: Session, instance: Instance) -> None:
        """Set the status of an instance from what is owed, done and given up for it."""
        states = session.exec(
            select(WorkItem.state).where(WorkItem.kind == WorkKind.INFER, WorkItem.subject_id == instance.id)
        ).all()
        if any(state in {WorkState.OWED, WorkState.LEASED} for state in states):
            instance.status = InstanceStatus.PENDING
        elif WorkState.QUARANTINED in states:
            instance.status = InstanceStatus.FAILED
        else:
            instance.status, instance.reason = InstanceStatus.CLASSIFIED, ""
        session.add(instance)

    def fail_instance(self, session: Session, instance: Instance, reason: str, model: str) -> None:
        """Mark an instance failed for good, visibly and in the audit log."""
        instance.reason = reason
        session.get_one(Study, instance.study_id).failure_acknowledged_at = None  # nobody has seen this one yet
        self.settle_instance(session, instance)
        self.record(session, "inference.failed", instance.sop_instance_uid, {"reason": reason, "model": model})
        metrics.quarantined.labels(kind=WorkKind.INFER).inc()
        log.warning("inference_failed", instance=instance.sop_instance_uid, model=model, reason=reason)

    def owe_report(self, session: Session, study: Study) -> None:
        """Owe the next report of a study once nothing of it is pending; it waits until the study is quiet."""
        pending = session.exec(
            select(Instance.id).where(Instance.study_id == study.id, Instance.status == InstanceStatus.PENDING).limit(1)
        ).first()
        if pending is None:
            self.work.owe(
                session,
                WorkKind.REPORT,
                f"study {study.id} generation {study.generation + 1}",
                study.id or 0,
                not_before=self.quiet_at(study),
            )

    def quiet_at(self, study: Study) -> datetime:
        """Return when a study will have been quiet for long enough; the clock may have been stepped back since."""
        return min(study.last_received_at, self.work.clock()) + self.quiet

    def hold_report(self, session: Session, study: Study) -> None:
        """Let an owed report wait: the study has just received something."""
        session.execute(
            sa.update(WorkItem)
            .where(
                col(WorkItem.kind) == WorkKind.REPORT,
                col(WorkItem.subject_id) == study.id,
                col(WorkItem.state) == WorkState.OWED,
            )
            .values(not_before=self.quiet_at(study))
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
