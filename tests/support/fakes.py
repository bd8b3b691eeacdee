"""Fakes: a classifier and a reader that need no Keras and no child process, and a pipeline wired with them."""

import atexit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.card import Card, Code, Input, Label, Onnx, TriageStep, Window
from worker import schema
from worker.commitment.steps import CommitmentPolicy
from worker.config import Credentials, Peer
from worker.database import Database
from worker.errors import PixelError
from worker.inference.preview import Preview, make_preview
from worker.intake.headers import HeaderReader
from worker.intake.routing import Router
from worker.intake.spool import Spool
from worker.intake.work import Work
from worker.pipeline import Pipeline
from worker.wakeups import Wakeups

PNEUMONIA = Code(scheme="SCT", value="233604007", meaning="Pneumonia")
COVID = Code(scheme="SCT", value="840539006", meaning="COVID-19")


def card(name: str = "chest_xray_triage", version: str = "1.0.0") -> Card:
    """A card with two findings."""
    return Card(
        name=name,
        version=version,
        title="fake",
        input=Input(rows=8, columns=8, channels=1),
        recipe="chest_xray_triage",
        frame_policy="first",
        output="softmax",
        labels=(
            Label(name="normal", finding=False),
            Label(
                name="pneumonia",
                code=PNEUMONIA,
                finding=True,
                threshold=0.4,
                triage=(TriageStep(at_least=0.4, priority="routine"), TriageStep(at_least=0.7, priority="urgent")),
            ),
            Label(
                name="covid",
                code=COVID,
                finding=True,
                threshold=0.5,
                triage=(TriageStep(at_least=0.5, priority="urgent"), TriageStep(at_least=0.95, priority="immediate")),
            ),
        ),
        rollup="max",
        triage_rule="highest",
        threshold_rule="fixed",
        tolerance=0.001,
        weights_sha256="a" * 64,
        golden_sha256="b" * 64,
        intended_use="tests",
        not_for=("patients",),
    )


def with_onnx(card: Card, sha256: str = "d" * 64) -> Card:
    """The same card, of a package that has an ONNX file."""
    values = {"exporter": "made up", "runtime": "none", "opset": 17, "difference": 1e-7, "inputs": 9}
    found = Onnx(sha256=sha256, weights_sha256=card.weights_sha256, batch_invariant=True, **values)
    return card.model_copy(update={"onnx": found})


def ct_card() -> Card:
    """A card of a network that reads stacks of slices, in a lung window."""
    labels = (Label(name="non-covid", finding=False), card().labels[2])
    changes = {
        "labels": labels,
        "rollup": "top_tenth",
        "window": Window(centre=-600, width=1500),
        "weights_sha256": "c" * 64,
    }
    return card("chest_ct_covid").model_copy(update=changes)


class FakeClassifier:
    """Says what the brightness of an image says: dark is normal, bright is pneumonia; `poison` values misbehave."""

    engine, device, max_batch = "fake", "cpu", 32

    def __init__(self, version: str = "1.0.0") -> None:
        self.card = card(version=version)
        self.batches: list[int] = []
        self.poison: Callable[[np.ndarray], bool] = lambda image: False

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return np.full((8, 8, 1), image.mean() / 255, np.float32)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(len(batch))
        if any(self.poison(image) for image in batch):
            raise RuntimeError("the poison was in it")
        bright = batch.mean(axis=(1, 2, 3))
        return np.stack([1 - bright, bright, np.zeros_like(bright)], axis=1).astype(np.float32)


class FakeCtClassifier(FakeClassifier):
    """Says how bright a slice is, of two labels."""

    def __init__(self) -> None:
        super().__init__()
        self.card = ct_card()

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        return super().probabilities(batch)[:, :2]


class FakeFrame:
    def __init__(self, image: np.ndarray, *, windowed: bool) -> None:
        self.image, self.note, self.windowed = image, "", windowed


class FakeReader:
    """Reads the mean brightness an object was made with; `broken` objects raise."""

    count = 1

    def read(self, path: Path, frame_policy: str, window: Window | None = None) -> Any:
        import pydicom

        ds = pydicom.dcmread(path)
        if "PixelData" not in ds or len(ds.PixelData) < ds.Rows * ds.Columns:
            raise PixelError("the pixels are cut short")
        image = ds.pixel_array.astype(np.float32)
        return FakeFrame(image / image.max() * 255 if image.max() else image, windowed=window is not None)

    def prepared(self, path: Path, card: Card, keep: Callable[[Preview], None]) -> Any:
        frame = self.read(path, card.frame_policy, card.window)
        keep(make_preview(frame.image.astype(np.uint8)))
        frame.image = np.full((8, 8, 1), frame.image.mean() / 255, np.float32)
        return frame


class RecordingWakeups:
    """Remembers what it was asked to hint at."""

    def __init__(self) -> None:
        self.sent: list[set[str]] = []

    def send(self, queues: Any) -> bool:
        self.sent.append(set(queues))
        return True


HEADERS = HeaderReader()
"""One child for all pipelines of a test run, started with the first object."""
atexit.register(HEADERS.close)

INSTALLED = {"chest_xray_triage": ["1.0.0"]}
MODEL = "chest_xray_triage@1.0.0"
CT_MODEL = "chest_ct_covid@1.0.0"


def make_pipeline(
    database_url: str,
    data_dir: Path,
    *,
    destinations: Sequence[Peer] = (),
    quiet_seconds: float = 0.0,
    max_attempts: int = 3,
    lease_seconds: float = 30.0,
    installed: dict[str, list[str]] | None = None,
    commitment: CommitmentPolicy | None = None,
    credentials: Credentials | None = None,
    wakeups: Wakeups | None = None,
    **clock: Any,
) -> Pipeline:
    """A whole pipeline on a real database and a real spool; without `wakeups` it wakes nobody."""
    database = Database(database_url)
    schema.migrate(database)
    work = Work(database, lease_seconds=lease_seconds, max_attempts=max_attempts, **clock)
    return Pipeline(
        database,
        Spool(data_dir / "spool"),
        work,
        wakeups or RecordingWakeups(),  # type: ignore[arg-type]
        reports_dir=data_dir / "reports",
        previews_dir=data_dir / "previews",
        destinations=destinations,
        credentials=credentials,
        quiet_seconds=quiet_seconds,
        router=Router((), INSTALLED if installed is None else installed),
        headers=HEADERS,
        actor="test",
        commitment=commitment,
    )
