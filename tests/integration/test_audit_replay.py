"""Predictions of the shipped models, run again from the stored bytes: equal; with other bytes and weights, not."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from models.backend import keras_arrays, load_backend
from models.classifier import Classifier
from models.registry import CARD, SHIPPED, WEIGHTS, Registry, read_package, sha256_of
from tests.conftest import SCANS
from tests.support.fakes import make_pipeline
from tests.support.films import wrap_films
from tests.support.tampering import execute
from worker.audit.replay import Replay, replay
from worker.database import Database, Prediction
from worker.demo.phantoms import generate
from worker.inference.readers import PixelReaders
from worker.inference.rerun import Rerunner
from worker.intake.spool import Spool

FILM_MODEL = Registry().find("chest_xray_triage").identifier
CT_MODEL = Registry().find("chest_ct_covid").identifier


@pytest.fixture(scope="module")
def reader() -> Iterator[PixelReaders]:
    with PixelReaders(2, seconds=60, memory_bytes=4 << 30) as made:
        yield made


@pytest.fixture(scope="module")
def classifiers() -> dict[str, Classifier]:
    return {model: Classifier.load(Registry().find(model)) for model in (FILM_MODEL, CT_MODEL)}


@pytest.fixture(scope="module")
def classified(
    tmp_path_factory: pytest.TempPathFactory, reader: PixelReaders, classifiers: dict[str, Classifier]
) -> Path:
    """A data directory with predictions of both models: phantoms, and real films where they are."""
    folder = tmp_path_factory.mktemp("classified")
    installed = {model.partition("@")[0]: [model.partition("@")[2]] for model in classifiers}
    pipeline = make_pipeline(f"sqlite:///{folder / 'firstread.db'}", folder, installed=installed)
    files = [phantom.path for phantom in generate(folder / "phantoms", film_pixels=256, ct_pixels=128)]
    if SCANS.is_dir():
        files += wrap_films(SCANS, folder / "films", 2)
    for file in files:
        with pipeline.spool.receive() as incoming:
            incoming.write(file.read_bytes())
            incoming.commit()
    while pipeline.register_arrivals():
        pass
    for model, classifier in classifiers.items():
        pipeline.infer(model, classifier, reader)
    pipeline.database.dispose()
    return folder


@pytest.fixture
def data(classified: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    shutil.copytree(classified, tmp_path / "data", ignore=shutil.ignore_patterns("phantoms", "films"))
    return tmp_path / "data"


def replayed(data: Path, run: object) -> list[Replay]:
    database = Database(f"sqlite:///{data / 'firstread.db'}")
    with database.read() as session:
        numbers = list(session.exec(select(Prediction.id).order_by(Prediction.id)))  # type: ignore[arg-type]
    results = [replay(database, number or 0, Spool(data / "spool").path, run) for number in numbers]  # type: ignore[arg-type]
    database.dispose()
    return results


def test_every_prediction_comes_out_equal(data: Path, reader: PixelReaders, classifiers: dict[str, Classifier]) -> None:
    results = replayed(data, Rerunner(lambda model, _engine: classifiers[model], reader).run)
    assert {result.model for result in results} == {FILM_MODEL, CT_MODEL}
    assert len(results) >= 10
    assert [result.differences + result.remarks for result in results] == [[]] * len(results)
    assert all(result.equal for result in results)
    assert {classifier.engine for classifier in classifiers.values()} == {"onnx"}
    assert {(result.difference, result.tolerance) for result in results} == {(0.0, 0.0)}, "to the bit"


def test_one_changed_byte_is_found_whatever_the_network_makes_of_it(
    data: Path, reader: PixelReaders, classifiers: dict[str, Classifier]
) -> None:
    database = Database(f"sqlite:///{data / 'firstread.db'}")
    spool = Spool(data / "spool")
    for name in spool.filed():
        path = spool.filed_path(name)
        content = bytearray(path.read_bytes())
        content[content.index(b"PHANTOM") if b"PHANTOM" in content else -1] ^= 1  # in a name: no pixel changes
        path.write_bytes(content)
    result = replay(database, 1, spool.path, Rerunner(lambda model, _engine: classifiers[model], reader).run)
    assert [difference.what for difference in result.differences] == ["bytes"]
    assert (result.equal, result.difference is not None and result.difference <= 1e-5) == (False, True)
    database.dispose()


def test_other_weights_under_the_same_name_are_found(data: Path, tmp_path: Path, reader: PixelReaders) -> None:
    keras, _ = load_backend()
    name, version = FILM_MODEL.split("@")
    folder = tmp_path / name / version
    shutil.copytree(SHIPPED / name / version, folder)
    network = keras.models.load_model(folder / WEIGHTS, compile=False)
    variable = network.trainable_variables[-1]
    variable.assign(variable.numpy() + np.float32([3.0, 0.0, 0.0, 0.0]))
    with keras_arrays():
        network.save(folder / WEIGHTS)
    database = Database(f"sqlite:///{data / 'firstread.db'}")
    run = Rerunner(lambda _model, _engine: Classifier.load(read_package(folder)), reader).run
    result = replay(database, 1, Spool(data / "spool").path, run)
    assert [difference.what for difference in result.differences] == ["weights"]
    assert "is not the card's" in result.differences[0].words  # a damaged file is not loaded at all
    card = json.loads((folder / CARD).read_text()) | {"weights_sha256": sha256_of(folder / WEIGHTS), "onnx": None}
    (folder / CARD).write_text(json.dumps(card))
    result = replay(database, 1, Spool(data / "spool").path, run)
    assert [difference.what for difference in result.differences] == ["weights", "probabilities"]
    database.dispose()


def test_the_command(data: Path, firstread: list[str]) -> None:
    database = Database(f"sqlite:///{data / 'firstread.db'}")
    execute(database, "UPDATE prediction SET flagged = '[\"edited\"]' WHERE id = 1")
    database.dispose()
    environment = os.environ | {"FIRSTREAD_DATA_DIR": str(data)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*firstread, "audit", "replay", *arguments]
        return subprocess.run(command, env=environment, cwd=data, capture_output=True, text=True, check=False)

    done = run("1", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["equal"], said["model"]) == (1, False, FILM_MODEL)
    assert [difference["what"] for difference in said["differences"]] == ["row"]
    assert said["difference"] <= 1e-5
    done = run("999")
    assert (done.returncode, done.stdout, "no prediction 999" in done.stderr) == (1, "", True)
