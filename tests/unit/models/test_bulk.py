"""Each file gets its record in its place, whatever happens to its neighbours."""

import csv
import io
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bulk import (
    Failure,
    Prediction,
    Record,
    UnusableFileError,
    article_record,
    csv_text,
    files_under,
    predict,
)
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


def test_a_file_that_may_not_be_read_costs_only_itself(package: Package) -> None:
    def open_file(path: Path) -> Sequence[tuple[Package, FloatArray]]:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return [(package, np.zeros((9, 9), np.float32))]

    records = predict([Path("a.png"), Path("b.png")], open_file, Classifier.load)
    assert "error" not in records[0]
    assert records[1] == {"file": "b.png", "error": "Permission denied"}


def test_a_folder_stands_for_its_files_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.dcm", ".hidden", "b/.git/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name, format="PNG")
    missing = tmp_path / "missing.png"
    found, failures = files_under([missing, tmp_path])
    assert not failures
    assert [str(path.relative_to(tmp_path)) for path in found] == ["missing.png", "a.dcm", "b/1.png", "b/2.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "shut/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found, failures = files_under([tmp_path])
    assert found == [tmp_path / "a/1.png"]
    expected = "this folder cannot be listed: Permission denied"
    assert failures == [{"file": str(tmp_path / "shut"), "error": expected}]


def test_what_may_not_be_looked_at_is_listed_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, mode in (("shut", 0o000), ("listed", 0o444)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
        (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # so that no right to the folders above is needed
    before = os.geteuid()
    if before == 0:  # root may look at anything
        os.seteuid(65534)
    try:
        found, failures = files_under([Path()])
    finally:
        os.seteuid(before)
    assert found == [Path("listed/1.png")]
    assert [Path(failure["file"]) for failure in failures] == [Path("shut")]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").touch()
    films = tmp_path / "films"
    films.mkdir()
    (films / "linked").symlink_to(tmp_path / "elsewhere")
    (films / "up").symlink_to(films)
    (films / "gone.png").symlink_to(tmp_path / "nowhere")
    found, failures = files_under([films])
    assert found == [films / "gone.png", films / "linked/1.png"]
    assert not failures


def test_images_do_not_pile_up(package: Package, make_package: Make) -> None:
    """Two models in turn, so that neither batch fills at every file: alive are two batches at most, not 300 images."""
    other = make_package(version="2.0.0")
    held: list[weakref.ref[FloatArray]] = []
    alive: list[int] = []

    def load(package: Package) -> Classifier:
        classifier = Classifier.load(package)
        prepare = classifier.prepare

        def counted(image: FloatArray) -> FloatArray:
            prepared = prepare(image)
            held.append(weakref.ref(prepared))
            return prepared

        classifier.prepare = counted  # type: ignore[method-assign]
        return classifier

    def open_file(path: Path) -> Sequence[tuple[Package, FloatArray]]:
        alive.append(sum(reference() is not None for reference in held))
        chosen = other if int(path.stem) % 7 == 0 else package
        return [(chosen, golden_image(40, 40).astype(np.float32))]

    records = predict([Path(f"{number}.png") for number in range(300)], open_file, load)
    assert not any("error" in record for record in records)
    assert 32 <= max(alive) <= 2 * 32


def prediction(**probabilities: float) -> Prediction:
    return Prediction(file="f", model="tiny", model_version="1.0.0", probabilities=probabilities, flagged=[])


def test_the_articles_record_names_the_most_probable(make_package: Make) -> None:
    card = make_package().card
    assert article_record(prediction(normal=0.3, pneumonia=0.7), card) == {"Probability": 0.7, "Disease": "pneumonia"}
    assert article_record(prediction(normal=0.6, pneumonia=0.4), card) == {"Probability": 0.6, "Disease": "normal"}
    diseases = card.model_copy(update={"output": "sigmoid", "labels": card.labels[1:]})
    assert article_record(prediction(pneumonia=0.2), diseases) == {"Probability": 0.8, "Disease": "normal"}
    assert article_record(prediction(pneumonia=0.6), diseases) == {"Probability": 0.6, "Disease": "pneumonia"}


def test_csv_has_the_labels_of_all_models_and_empty_cells(package: Package) -> None:
    records: list[Record] = [
        prediction(normal=0.25, pneumonia=0.75) | {"flagged": ["pneumonia"]},
        Failure(file="a, b.png", error='no "pixels"'),
        prediction(covid=0.5, normal=0.5) | {"model": "other", "flagged": ["covid", "x"]},
    ]  # type: ignore[list-item]
    assert csv_text(records) == (
        "file,model,model_version,normal,pneumonia,covid,flagged,error\n"
        "f,tiny,1.0.0,0.25,0.75,,pneumonia,\n"
        '"a, b.png",,,,,,,"no ""pixels"""\n'
        "f,other,1.0.0,0.5,,0.5,covid;x,\n"
    )
    assert csv_text([]) == "file,model,model_version,flagged,error\n"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_the_csv_is_a_formula(first: str) -> None:
    name = f"{first}cmd|x!A1.png"
    records: list[Record] = [
        Failure(file=name, error=f"{first}1+1"),
        prediction(normal=1e-7) | {"file": name, "flagged": [f"{first}label"]},
    ]  # type: ignore[list-item]
    failed, predicted = csv.DictReader(io.StringIO(csv_text(records), newline=""))
    assert failed["file"] == predicted["file"] == f"'{name}"
    assert failed["error"] == f"'{first}1+1"
    assert predicted["flagged"] == f"'{first}label"
    assert predicted["normal"] == "1e-07"


def test_a_return_in_a_name_ends_no_row_of_the_csv() -> None:
    rows = list(csv.reader(io.StringIO(csv_text([Failure(file="a\rb\nc.png", error="torn")]), newline="")))
    assert rows[1:] == [["a\\rb\nc.png", "", "", "", "torn"]]
