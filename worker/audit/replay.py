"""Replay: the recorded bytes through the recorded weights again. Equal within the card's tolerance, or what differs.

The room has no classifier and no reader: both are handed in.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from sqlmodel import Session, col, select

from worker.audit.claims import CLAIMS, Facts, differences, predictions
from worker.database import AuditEvent, Database, Instance, ModelVersion, Prediction, Study
from worker.errors import FirstreadError, NotFound, PackageError, PixelError


class Ran(Protocol):
    """What a run gives; `worker.inference.rerun.Rerun` does."""

    @property
    def probabilities(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def recipe(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def environment(self) -> Mapping[str, Any]: ...  # noqa: D102


Run = Callable[[str, Path, int, str], Ran]
"""Runs model `name@version` over a stored object, so many copies at once, on an engine where that is here."""


@dataclass(frozen=True)
class Difference:
    """Something that is not what was recorded.

    Attributes
    ----------
    what
        `bytes`, `weights`, `recipe`, `window`, `probabilities`, `row` (the row is not what the chain says), `chain`
        (it says nothing), `run` (it could not be run); as a remark `libraries`, `engine`, `device`, `environment`.
    """

    what: str
    recorded: Any
    found: Any
    words: str


@dataclass
class Replay:
    """What came of a replay; `differences` make it unequal, `remarks` may explain why.

    `tolerance` is the card's. It is 0 where ONNX Runtime computed both times and there is no remark: the same file,
    libraries and processor give the same bits.
    """

    prediction: int
    sop_instance_uid: str
    study_instance_uid: str
    model: str
    tolerance: float
    recorded: Mapping[str, float]
    found: Mapping[str, float] | None = None
    difference: float | None = None
    differences: list[Difference] = field(default_factory=list)
    remarks: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether it was run, nothing differs, and every probability is within the tolerance."""
        return self.found is not None and not self.differences

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        value = {name: getattr(self, name) for name in self.__dataclass_fields__}
        value["differences"] = [vars(one) for one in self.differences]
        value["remarks"] = [vars(one) for one in self.remarks]
        return {"equal": self.equal, **value}


@dataclass(frozen=True)
class _Recorded:
    """What the tables hold, and what the chain says."""

    row: Facts
    said: tuple[int, Facts] | None
    detail: Mapping[str, Any]
    study: str
    sha256: str
    spool_name: str
    removed_at: datetime | None
    tolerance: float

    @property
    def trusted(self) -> Facts:
        """What counts: the word of the chain, where there is one."""
        return self.row | (self.said[1] if self.said else {})


def replay(database: Database, prediction: int, locate: Callable[[str], Path | None], run: Run) -> Replay:
    """Replay a prediction.

    Parameters
    ----------
    locate
        Says where stored bytes lie, by spool name; None where they are gone.
    run
        Runs the model.

    Raises
    ------
    NotFound
        When there is no such prediction.
    """
    with database.read() as session:
        recorded = _recorded(session, prediction)
    trusted = recorded.trusted
    result = Replay(
        prediction, trusted["sop_instance_uid"], recorded.study, trusted["model"], recorded.tolerance,
        trusted["probabilities"],
    )  # fmt: skip
    result.differences += _of_the_record(recorded)
    path = locate(recorded.spool_name)
    result.differences += _of_the_bytes(recorded, path)
    if path is None:
        return result
    try:
        ran = run(trusted["model"], path, trusted["batch_size"], trusted["engine"])
    except FirstreadError as error:
        what = "weights" if isinstance(error, PackageError) else "bytes" if isinstance(error, PixelError) else "run"
        result.differences.append(Difference(what, trusted["weights_sha256"], None, str(error)))
        return result
    result.found = ran.probabilities
    result.differences += _of_the_run(trusted, ran)
    result.remarks += _remarks(trusted, ran)
    if ran.engine == "onnx" and not result.remarks and not result.differences:
        result.tolerance = 0.0
    both = set(result.recorded) & set(ran.probabilities)
    result.difference = max((abs(result.recorded[name] - ran.probabilities[name]) for name in both), default=None)
    if set(result.recorded) != set(ran.probabilities) or result.difference is None:
        words = "the model has other labels than those that were recorded"
        result.differences.append(Difference("probabilities", dict(result.recorded), dict(ran.probabilities), words))
    elif not result.difference <= result.tolerance:
        allowed = (
            f"the card allows {result.tolerance:g}" if result.tolerance else "ONNX Runtime gives the same bits here"
        )
        words = f"the probabilities differ by {result.difference:.2g}, {allowed}"
        result.differences.append(Difference("probabilities", dict(result.recorded), dict(ran.probabilities), words))
    return result


def _recorded(session: Session, number: int) -> _Recorded:
    row = next((facts for _, _, facts in predictions(session, number)), None)
    if row is None:
        raise NotFound(f"no prediction {number}; `firstread audit export --study UID` names those of a study")
    instance, study, version = session.exec(
        select(Instance, Study, ModelVersion)
        .join(Prediction, col(Prediction.instance_id) == col(Instance.id))
        .join(Study, col(Study.id) == col(Instance.study_id))
        .join(ModelVersion, col(ModelVersion.id) == col(Prediction.model_version_id))
        .where(Prediction.id == number)
    ).one()
    event, said, detail = _said(session, number, instance.sop_instance_uid)
    return _Recorded(
        row=row,
        said=None if said is None else (event, said),
        detail=detail,
        study=study.study_instance_uid,
        sha256=instance.sha256,
        spool_name=instance.spool_name,
        removed_at=instance.removal_began_at,
        tolerance=float(version.card["tolerance"]),
    )


def _said(session: Session, number: int, subject: str) -> tuple[int, Facts | None, Mapping[str, Any]]:
    """Return the newest event of a prediction, and what it says."""
    events = session.exec(
        select(AuditEvent)
        .where(AuditEvent.subject == subject, col(AuditEvent.action).in_(("prediction.made", "prediction.remade")))
        .order_by(col(AuditEvent.id).desc())
    )
    for event in events:
        try:
            detail = json.loads(event.detail)
            _, key, facts = CLAIMS[event.action](event.subject, detail)
        except (ValueError, TypeError, KeyError):  # it was changed: `audit verify` names it, and it proves nothing
            continue
        if key == str(number):
            return event.id or 0, facts, detail
    return 0, None, {}


def _of_the_record(recorded: _Recorded) -> Iterator[Difference]:
    if recorded.said is None:
        yield Difference("chain", None, None, "no event of the audit chain tells of this prediction")
        return
    event, said = recorded.said
    for name, value in said.items():
        if recorded.row.get(name) != value:
            (words,) = differences(recorded.row, event, {name: value})
            yield Difference("row", value, recorded.row.get(name), words)


def _of_the_bytes(recorded: _Recorded, path: Path | None) -> Iterator[Difference]:
    wanted = recorded.detail.get("instance_sha256", recorded.sha256)
    if recorded.sha256 != wanted:
        words = "the row of the instance carries another SHA-256 than the chain"
        yield Difference("row", wanted, recorded.sha256, words)
    if path is None:
        removed = f"were removed by retention on {recorded.removed_at:%Y-%m-%d}" if recorded.removed_at else "are gone"
        words = f"the stored bytes {removed}; a backup of an earlier day has them"
        yield Difference("bytes", wanted, None, words)
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        yield Difference("bytes", wanted, None, f"the stored bytes cannot be read: {error.strerror}")
        return
    if found != wanted:
        yield Difference("bytes", wanted, found, "the stored bytes are not those that were classified")


def _of_the_run(trusted: Facts, ran: Ran) -> Iterator[Difference]:
    if ran.weights_sha256 != trusted["weights_sha256"]:
        words = f"the weights installed as {trusted['model']} are not those that classified"
        yield Difference("weights", trusted["weights_sha256"], ran.weights_sha256, words)
    (recipe, window), (recipe_now, window_now) = _parts(trusted["recipe"]), _parts(ran.recipe)
    then, now = trusted.get("environment") or {}, ran.environment
    if {"onnx_sha256"} <= then.keys() & now.keys() and then["onnx_sha256"] != now["onnx_sha256"]:
        words = f"the ONNX file installed with {trusted['model']} is not the one that classified"
        yield Difference("weights", then["onnx_sha256"], now["onnx_sha256"], words)
    for key, name in (("recipe_version", "recipe"), ("rendering_version", "rendering")):
        if key in then and then[key] != now[key]:
            yield Difference("recipe", then[key], now[key], f"the {name} of this release is another version")
    if recipe != recipe_now:
        yield Difference("recipe", recipe, recipe_now, "the model's card names another preprocessing recipe")
    if window != window_now:
        yield Difference("window", window, window_now, "it is shown to the network in another window")


def _parts(recipe: str) -> tuple[str, str]:
    """Take the words apart that say how pixels were made ready: recipe and window."""
    name, _, window = recipe.partition(", shown at ")
    return name, window


def _remarks(trusted: Facts, ran: Ran) -> Iterator[Difference]:
    for name, now in (("engine", ran.engine), ("device", ran.device)):
        if trusted[name] != now:
            yield Difference(name, trusted[name], now, f"it ran on {trusted[name]} then, on {now} now")
    before = trusted.get("environment") or {}
    if (processor := before.get("processor")) not in {None, ran.environment["processor"]}:
        words = f"the processor was {processor}, it is {ran.environment['processor']}"
        yield Difference("environment", processor, ran.environment["processor"], words)
    then = before.get("libraries")
    if then is None:
        words = "versions of libraries were not recorded with it: it was made before this release"
        yield Difference("environment", None, None, words)
        return
    libraries = ran.environment["libraries"]
    for name in sorted(set(then) | set(libraries)):
        if then.get(name) != libraries.get(name):
            words = f"{name} was {then.get(name, 'not there')}, it is {libraries.get(name, 'not there')}"
            yield Difference("libraries", then.get(name), libraries.get(name), words)
