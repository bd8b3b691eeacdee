"""What a worker keeps warm: classifiers that compute as the settings ask, and decoding children."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from structlog.testing import capture_logs

from models.classifier import Classifier
from models.registry import Registry
from tests.support.stand_in_child import write_stand_in
from worker.config import Settings

if TYPE_CHECKING:
    from worker.tasks import Runtime

CHEST_CT = Registry().find("chest_ct_covid").identifier


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_mixed_precision_that_the_card_does_not_allow_is_float32_and_loud(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker import tasks

    asked = Settings(data_dir=tmp_path, engine="keras", precision=precision)
    monkeypatch.setattr(tasks, "settings", asked)
    monkeypatch.setattr(Classifier, "warm_up", lambda _self: None)
    with capture_logs() as logs:
        classifier = tasks.Runtime().classifier(CHEST_CT)
    assert classifier.engine == "keras"
    loud = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["event"] for entry in loud] == ["computed_in_float32"] * (precision == "mixed")
    assert all("does not allow mixed precision" in entry["because"] for entry in loud)


def decoding() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "worker.inference.decoder" in one.cmdline()]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Runtime"]:
    from worker import tasks

    monkeypatch.setattr(tasks, "settings", Settings(data_dir=tmp_path, decoders=2))
    runtime = tasks.Runtime()
    yield runtime
    runtime.reader.close()


def test_the_decoding_children_get_ready_beside_the_classifiers(
    runtime: "Runtime", monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[psutil.Process]] = []
    monkeypatch.setattr(type(runtime), "classifier", lambda _self, _model: started.append(decoding()))
    with capture_logs() as logs:
        runtime.warm_up([CHEST_CT])
    (beside,) = started
    assert len(beside) == 2
    assert decoding() == beside
    # What a child has given up is told when it is ready.
    assert [entry["event"] for entry in logs] == ["child_confined"]


def test_a_worker_without_decoding_children_is_ready_all_the_same(
    runtime: "Runtime", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(type(runtime), "classifier", lambda _self, model: loaded.append(model))
    monkeypatch.setattr("sys.executable", write_stand_in(tmp_path, "sys.exit(3)"))
    with capture_logs() as logs:
        runtime.warm_up([CHEST_CT])
    assert loaded == [CHEST_CT]
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["child_not_warm"]
