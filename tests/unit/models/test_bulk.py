"""Each file gets its record in its place, whatever happens to its neighbours."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bulk import UnusableFileError, files_under, predict
from models.classifier import Classifier
from models.errors import ImageError, ModelError, PackageError
from models.golden import golden_image
from models.preprocessing import FloatArray
from models.registry import Package

Make = Callable[..., Package]


@pytest.fixture
def package(make_package: Make) -> Package:
    return make_package()


def opener(*packages: Package) -> Callable[[Path], Sequence[tuple[Package, FloatArray]]]:
    def open_file(path: Path) -> Sequence[tuple[Package, FloatArray]]:
        if "bad" in path.name:
            raise UnusableFileError("torn")
        image = golden_image(40 + len(path.name), 40).astype(np.float32)
        return [(package, image) for package in packages]

    return open_file


def test_records_stand_in_the_order_of_the_files(package: Package) -> None:
    files = [Path(f"{'bad' if i % 10 == 3 else 'film'}{i}.png") for i in range(70)]
    done: list[tuple[int, int]] = []
    records = predict(files, opener(package), Classifier.load, watch=lambda now, total: done.append((now, total)))
    assert [record["file"] for record in records] == [str(file) for file in files]
    assert [i for i, record in enumerate(records) if "error" in record] == [3, 13, 23, 33, 43, 53, 63]
    assert records[3] == {"file": "bad3.png", "error": "torn"}
    assert done[-1] == (70, 70)


def test_a_prediction_says_what_the_card_flags(package: Package) -> None:
    [record] = predict([Path("film.png")], opener(package), Classifier.load)
    assert "probabilities" in record
    assert list(record) == ["file", "model", "model_version", "probabilities", "flagged"]
    assert (record["model"], record["model_version"]) == ("tiny", "1.0.0")
    assert list(record["probabilities"]) == ["normal", "pneumonia"]
    assert record["flagged"] == (["pneumonia"] if record["probabilities"]["pneumonia"] >= 0.4 else [])


def test_a_file_for_two_models_gets_two_records(package: Package, make_package: Make) -> None:
    other = make_package(version="2.0.0")
    records = predict([Path("film.png")], opener(package, other), Classifier.load)
    assert [record.get("model_version") for record in records] == ["1.0.0", "2.0.0"]


def test_a_model_that_does_not_load_is_tried_once_and_said_of_every_file(package: Package) -> None:
    tried: list[str] = []

    def load(package: Package) -> Classifier:
        tried.append(package.identifier)
        raise PackageError("damaged")

    records = predict([Path("a.png"), Path("b.png")], opener(package), load)
    assert records == [{"file": "a.png", "error": "damaged"}, {"file": "b.png", "error": "damaged"}]
    assert tried == ["tiny@1.0.0"]


def test_a_batch_that_fails_says_so_of_each_of_its_files(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> FloatArray:
        raise ModelError("no answer")

    monkeypatch.setattr(Classifier, "probabilities", fail)
    records = predict([Path("a.png"), Path("b.png")], opener(package), Classifier.load)
    assert [record.get("error") for record in records] == ["no answer", "no answer"]


def test_a_bad_image_costs_only_itself(package: Package) -> None:
    def open_file(path: Path) -> Sequence[tuple[Package, FloatArray]]:
        if path.name == "b.png":
            raise ImageError("no pixels")
        return [(package, np.zeros((9, 9) if path.name == "a.png" else (9, 9, 9), np.float32))]

    records = predict([Path("a.png"), Path("b.png"), Path("c.png")], open_file, Classifier.load)
    assert ["error" in record for record in records] == [False, True, True]


def test_a_folder_stands_for_its_files_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.dcm", ".hidden", "b/.git/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name, format="PNG")
    missing = tmp_path / "missing.png"
    found = files_under([missing, tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["missing.png", "a.dcm", "b/1.png", "b/2.png"]
