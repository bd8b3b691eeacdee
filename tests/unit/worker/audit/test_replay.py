"""A replay says equal, or what differs: each thing that can differ, one at a time, with fakes for Keras and child."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import preprocessing
from models.errors import NotInstalledError
from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline, with_onnx
from tests.support.objects import film, spool_object
from tests.support.tampering import execute, unguarded
from worker import inference_commit
from worker.audit.replay import Replay, replay
from worker.database import Prediction
from worker.errors import NotFound
from worker.inference import environment, grayscale
from worker.inference.rerun import Rerunner
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path):
    made = make_pipeline(database_url, tmp_path)
    yield made
    made.database.dispose()


@pytest.fixture
def predicted(pipeline: Pipeline) -> Pipeline:
    spool_object(pipeline.spool, film(np.full((16, 16), 3000, np.uint16)))
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    return pipeline


def again(
    pipeline: Pipeline, number: int = 1, load: Callable[[str, str], Any] = lambda _model, _engine: FakeClassifier()
) -> Replay:
    run = Rerunner(load, FakeReader()).run  # type: ignore[arg-type]
    return replay(pipeline.database, number, pipeline.spool.path, run)


def whats(result: Replay) -> list[str]:
    return [difference.what for difference in result.differences]


def test_nothing_differs(predicted: Pipeline) -> None:
    result = again(predicted)
    assert (result.equal, result.difference, result.differences, result.remarks) == (True, 0.0, [], [])
    assert result.as_json()["equal"] is True


def test_what_it_was_made_with_is_recorded(predicted: Pipeline) -> None:
    with predicted.database.read() as session:
        made_with = session.get(Prediction, 1).environment
    assert made_with["recipe_version"] == preprocessing.VERSIONS["chest_xray_triage"]
    assert {"python", "numpy", "keras", "pydicom", "pillow", "firstread"} <= set(made_with["libraries"])
    assert any(name.startswith("tensorflow") for name in made_with["libraries"])


def test_other_bytes(predicted: Pipeline) -> None:
    (name,) = predicted.spool.filed()
    path = predicted.spool.filed_path(name)
    path.write_bytes(path.read_bytes()[:-1] + b"\x0c")
    result = again(predicted)
    assert (result.equal, "bytes" in whats(result)) == (False, True)


def test_no_bytes(predicted: Pipeline) -> None:
    (name,) = predicted.spool.filed()
    predicted.spool.filed_path(name).unlink()
    result = again(predicted)
    assert (result.equal, result.found, whats(result)) == (False, None, ["bytes"])
    assert "a backup of an earlier day has them" in result.differences[0].words


def test_no_model(predicted: Pipeline) -> None:
    def load(model: str, _engine: str) -> Any:
        raise NotInstalledError(f"no package {model!r} is installed")

    result = again(predicted, load=load)
    assert (result.equal, result.found, whats(result)) == (False, None, ["weights"])
    assert MODEL in result.differences[0].words


def test_other_weights(predicted: Pipeline) -> None:
    other = FakeClassifier()
    other.card = other.card.model_copy(update={"weights_sha256": "f" * 64})
    other.probabilities = lambda batch: np.tile(np.float32([0.1, 0.2, 0.7]), (len(batch), 1))  # type: ignore[method-assign]
    assert whats(again(predicted, load=lambda _model, _engine: other)) == ["weights", "probabilities"]


@pytest.mark.parametrize("which", ["recipe", "rendering"])
def test_another_version_of_the_preprocessing(predicted: Pipeline, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    if which == "recipe":
        monkeypatch.setitem(preprocessing.VERSIONS, "chest_xray_triage", 99)
    else:
        monkeypatch.setattr(environment, "RENDERING_VERSION", grayscale.RENDERING_VERSION + 1)
    result = again(predicted)
    assert (result.equal, whats(result)) == (False, ["recipe"])
    assert which in result.differences[0].words


def test_another_recipe_and_another_window(predicted: Pipeline) -> None:
    other = FakeClassifier()
    other.card = other.card.model_copy(update={"recipe": "unit_range"})
    assert whats(again(predicted, load=lambda _model, _engine: other)) == ["recipe"]
    execute(predicted.database, "UPDATE prediction SET recipe = 'chest_xray_triage, shown at centre 0, width 1 HU'")
    unguarded(predicted.database)
    execute(
        predicted.database,
        "UPDATE audit_event SET detail = replace(detail, '\"chest_xray_triage\"', :recipe)"
        " WHERE action = 'prediction.made'",
        recipe='"chest_xray_triage, shown at centre 0, width 1 HU"',
    )
    assert whats(again(predicted)) == ["window"]


def test_another_library_is_a_remark(predicted: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    now = dict(environment.libraries()) | {"keras": "9.9.9"}
    monkeypatch.setattr(environment, "libraries", lambda: now)
    result = again(predicted)
    assert (result.equal, [remark.what for remark in result.remarks]) == (True, ["libraries"])
    assert "it is 9.9.9" in result.remarks[0].words


def test_another_device_is_a_remark(predicted: Pipeline) -> None:
    other = FakeClassifier()
    other.device = "gpu"
    result = again(predicted, load=lambda _model, _engine: other)
    assert (result.equal, [remark.what for remark in result.remarks]) == (True, ["device"])


def test_an_edited_probability(predicted: Pipeline) -> None:
    execute(predicted.database, "UPDATE prediction SET probabilities = '{\"normal\": 1.0}'")
    result = again(predicted)
    assert (result.equal, whats(result), result.difference) == (False, ["row"], 0.0)
    assert "the chain says" in result.differences[0].words


def test_a_prediction_that_no_event_tells_of(predicted: Pipeline) -> None:
    execute(predicted.database, "UPDATE prediction SET id = 7")
    assert whats(again(predicted, 7)) == ["chain"]


def test_a_prediction_of_the_first_schema(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_commit, "environment", lambda _card, _engine: None)
    spool_object(pipeline.spool, film())
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    result = again(pipeline)
    assert (result.equal, [remark.what for remark in result.remarks]) == (True, ["environment"])


def test_it_runs_in_a_batch_of_the_recorded_size(pipeline: Pipeline) -> None:
    for _ in range(3):
        spool_object(pipeline.spool, film())
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    classifier = FakeClassifier()
    assert again(pipeline, 2, load=lambda _model, _engine: classifier).equal
    assert classifier.batches == [3]


class FakeOnnxClassifier(FakeClassifier):
    """Runs on ONNX Runtime, it says; `off` is added to what it would say."""

    engine = "onnx"

    def __init__(self, off: float = 0.0, sha256: str = "d" * 64) -> None:
        super().__init__()
        self.card = with_onnx(self.card, sha256)
        self.off = np.float32(off)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        return super().probabilities(batch) + self.off


@pytest.fixture
def by_onnx(pipeline: Pipeline) -> Pipeline:
    spool_object(pipeline.spool, film(np.full((16, 16), 3000, np.uint16)))
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeOnnxClassifier(), FakeReader())  # type: ignore[arg-type]
    return pipeline


def test_the_recorded_engine_is_asked_for(by_onnx: Pipeline) -> None:
    asked: list[tuple[str, str]] = []

    def load(model: str, engine: str) -> Any:
        asked.append((model, engine))
        return FakeOnnxClassifier()

    assert again(by_onnx, load=load).equal
    assert asked == [(MODEL, "onnx")]


def test_onnx_runtime_gives_the_same_bits_or_it_is_not_equal(by_onnx: Pipeline) -> None:
    same = again(by_onnx, load=lambda _model, _engine: FakeOnnxClassifier())
    assert (same.equal, same.difference, same.tolerance) == (True, 0.0, 0.0)
    off = again(by_onnx, load=lambda _model, _engine: FakeOnnxClassifier(off=1e-6))
    assert (off.equal, whats(off)) == (False, ["probabilities"])
    assert "the same bits" in off.differences[0].words


@pytest.mark.parametrize("changed", ["processor", "libraries", "engine"])
def test_where_something_else_computes_the_tolerance_of_the_card_holds(
    by_onnx: Pipeline, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    classifier = FakeOnnxClassifier(off=1e-6)
    if changed == "processor":
        monkeypatch.setattr(environment, "processor", lambda: "another")
    elif changed == "libraries":
        now = dict(environment.libraries()) | {"onnxruntime": "9.9.9"}
        monkeypatch.setattr(environment, "libraries", lambda: now)
    else:
        classifier.engine = "keras"
    result = again(by_onnx, load=lambda _model, _engine: classifier)
    assert (result.equal, result.tolerance) == (True, 0.001)
    assert changed in {"processor", *(remark.what for remark in result.remarks)}


def test_another_onnx_file(by_onnx: Pipeline) -> None:
    result = again(by_onnx, load=lambda _model, _engine: FakeOnnxClassifier(sha256="e" * 64))
    assert (result.equal, whats(result)) == (False, ["weights"])
    assert "ONNX file" in result.differences[0].words


def test_each_engine_has_its_own_libraries(by_onnx: Pipeline) -> None:
    with by_onnx.database.read() as session:
        made_with = session.get(Prediction, 1).environment
    assert "onnxruntime" in made_with["libraries"]
    assert not {"keras", "tensorflow", "tensorflow-cpu"} & set(made_with["libraries"])
    assert made_with["onnx_sha256"] == "d" * 64
    assert made_with["processor"]


def test_no_such_prediction(pipeline: Pipeline) -> None:
    with pytest.raises(NotFound, match="no prediction 5"):
        again(pipeline, 5)
