"""The commit of a batch: predictions, audit events, the state of the studies, the owed reports; all or nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlmodel import Session, col

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
    insert_into,
    is_owed,
    utc_now,
)
from worker.errors import FirstreadError, Never, PackageError
from worker.inference.classify import Outcome
from worker.inference.environment import environment
from worker.intake.registration import Record
from worker.intake.work import Claim, Failure, Owed, Work, lease_lost
from worker.logs import get_logger
from worker.study_state import has_written, refresh_all

if TYPE_CHECKING:
    from models.card import Card
    from models.classifier import Classifier

log = get_logger(__name__)

_WORK: sa.Table = WorkItem.__table__  # type: ignore[attr-defined]
_INSTANCE: sa.Table = Instance.__table__  # type: ignore[attr-defined]
_VERSION: sa.Table = ModelVersion.__table__  # type: ignore[attr-defined]
_PREDICTION: sa.Table = Prediction.__table__  # type: ignore[attr-defined]


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
            studies = session.scalars(_studies(), {"instances": subjects}).all()
            version_id = self.model_version(session, classifier.card)
            ours = self._end(session, claims, outcomes)
            kept = [pair for pair in zip(claims, outcomes, strict=True) if pair[0].id in ours]
            instances = self._write(session, kept, classifier, version_id)
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
        given = {"instances": [claim.subject_id for claim, _ in kept], "version_id": version_id}
        found = session.execute(_instances(), given).all()
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
                    has_written(instance, {"remark": "; ".join(dict.fromkeys(notes))})  # `settle_instances` does
                row = rows[claim.subject_id]
                said = _said(predictions[claim.subject_id], instance, row, classifier.card)
                again = claim.subject_id in earlier
                self.record(
                    session, "prediction.remade" if again else "prediction.made", instance.sop_instance_uid, said
                )
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
        session.flush()
        connection = session.connection()
        states: dict[int, set[str]] = defaultdict(set)
        for subject_id, state in connection.execute(_states(), {"instances": [one.id for one in instances]}):
            states[subject_id].add(state)
        rows: list[dict[str, Any]] = []
        for instance in instances:
            found = states[instance.id or 0]
            status, reason = InstanceStatus.CLASSIFIED, ""
            if found & {WorkState.OWED, WorkState.LEASED}:
                status, reason = InstanceStatus.PENDING, instance.reason
            elif WorkState.QUARANTINED in found:
                status, reason = InstanceStatus.FAILED, instance.reason
            settled = {"status": status, "reason": reason, "remark": instance.remark}
            has_written(instance, settled)
            rows.append({"number": instance.id, **settled})
        connection.execute(_settle(), rows)

    def fail_instance(self, session: Session, instance: Instance, reason: str, model: str) -> None:
        """Mark an instance failed for good, visibly and in the audit log."""
        self._fail(session, instance, reason, model)
        self.settle_instance(session, instance)

    def _fail(self, session: Session, instance: Instance, reason: str, model: str) -> None:
        has_written(instance, {"reason": reason})  # `settle_instances` does, which comes next
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
            _hold(), [{"of_study": study.id, "quiet_at": self.quiet_at(study)} for study in studies]
        )

    def model_version(self, session: Session, card: "Card") -> int:
        """Return the number of the row of a model, made when it first classifies here.

        Raises
        ------
        PackageError
            When other weights, or another ONNX file, have classified under this name and version before.
        """
        named = {"model": card.name, "of_version": card.version}
        version = session.connection().execute(_version(), named).one_or_none()
        if version is None:  # another worker may be making it at this moment
            made = insert_into(session, ModelVersion).values(
                name=card.name,
                version=card.version,
                weights_sha256=card.weights_sha256,
                card=card.model_dump(mode="json"),
            )
            session.execute(made.on_conflict_do_nothing())
            version = session.connection().execute(_version(), named).one()
        if version.weights_sha256 != card.weights_sha256:
            raise PackageError(
                f"{card.identifier}: its weights are not those that classified under this version before; "
                "give the package a new version"
            )
        if card.onnx is not None:
            _same_onnx(session, version, card)
        return int(version.id)


def _same_onnx(session: Session, version: sa.Row[Any], card: "Card") -> None:
    """Note a package's ONNX file when it has first gained one; from then on it is that one."""
    now = card.model_dump(mode="json")["onnx"]
    before = version.card.get("onnx")
    if before is None:
        session.get_one(ModelVersion, version.id).card = {**version.card, "onnx": now}
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
    remade = [{**row, "number": earlier[instance]} for instance, row in rows.items() if instance in earlier]
    if remade:
        session.connection().execute(_remake(), remade)
    made = [row for instance, row in rows.items() if instance not in earlier]
    if not made:
        return {}
    return dict(session.connection().execute(_make(), made).all())


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


# The statements, each put together once by a process: that takes longer than the database takes over them.


@cache
def _studies() -> sa.Select[Any]:
    """Lock the studies of the given `instances`, in their order."""
    theirs = sa.select(_INSTANCE.c.study_id).where(_INSTANCE.c.id.in_(_given_instances()))
    return sa.select(Study).where(col(Study.id).in_(theirs)).order_by(col(Study.id)).with_for_update()


@cache
def _instances() -> sa.Select[Instance, int | None]:
    """Return the given `instances`, each with the number of its prediction by a version of a model."""
    of_version = sa.and_(
        col(Prediction.instance_id) == col(Instance.id),
        col(Prediction.model_version_id) == sa.bindparam("version_id"),
    )
    query = sa.select(Instance, col(Prediction.id)).outerjoin(Prediction, of_version)
    return query.where(col(Instance.id).in_(_given_instances()))


@cache
def _states() -> sa.Select[Any]:
    """Return how the work of the given `instances` stands."""
    work = _WORK.c
    query = sa.select(work.subject_id, work.state)
    return query.where(work.kind == WorkKind.INFER, work.subject_id.in_(_given_instances()))


def _given_instances() -> sa.BindParameter[Any]:
    return sa.bindparam("instances", expanding=True)


@cache
def _settle() -> sa.Update:
    return sa.update(_INSTANCE).where(_INSTANCE.c.id == sa.bindparam("number"))


@cache
def _make() -> sa.UpdateBase:
    return sa.insert(_PREDICTION).returning(_PREDICTION.c.instance_id, _PREDICTION.c.id)


@cache
def _remake() -> sa.Update:
    return sa.update(_PREDICTION).where(_PREDICTION.c.id == sa.bindparam("number"))


@cache
def _version() -> sa.Select[Any]:
    """Return what is known of the `model` `of_version`."""
    version = _VERSION.c
    query = sa.select(version.id, version.weights_sha256, version.card)
    return query.where(version.name == sa.bindparam("model"), version.version == sa.bindparam("of_version"))


@cache
def _hold() -> sa.Update:
    """Let the owed report `of_study` wait until it is `quiet_at`."""
    work = _WORK.c
    of_study = work.subject_id == sa.bindparam("of_study")
    report = sa.and_(work.kind == WorkKind.REPORT, of_study, is_owed())
    return sa.update(_WORK).where(report).values(not_before=sa.bindparam("quiet_at"))
