"""A split that tears a patient apart is refused, in words."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.training.dataset import load_dataset

HEADER = "file,label,split,patient_id,group_id"
ROWS = (
    "a.png,normal,train,p1,g1",
    "b.png,covid,train,p2,g2",
    "c.png,covid,train,p3,g2",
    "d.png,normal,val,p4,g3",
    "e.png,covid,test,p5,g4",
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: str, header: str = HEADER) -> Path:
        for row in rows:
            (tmp_path / row.split(",")[0]).write_bytes(b"")
        (tmp_path / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
        return tmp_path

    return write


def test_films_come_by_split_with_their_labels(write: Callable[..., Path]) -> None:
    dataset = load_dataset(write(*ROWS), ("normal", "covid"))
    train = dataset.split("train")
    assert [film.path.name for film in train] == ["a.png", "b.png", "c.png"]
    assert dataset.targets(train) == [0, 1, 1]
    assert dataset.counts()["test"] == {"normal": 0, "covid": 1}
    assert dataset.class_weights() == {0: 1.5, 1: 0.75}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("f.png,normal,test,p6,g1", r"1 patients or groups .* g1 \(test and train\)"),
        ("f.png,normal,val,p1,g9", r"p1 \(train and val\)"),
        ("f.png,measles,train,p6,g6", "line 7: label 'measles' is none of normal, covid"),
        ("f.png,normal,holdout,p6,g6", "split 'holdout'"),
        ("f.png,normal,train,,", "neither patient_id nor group_id"),
        ("a.png,normal,train,p1,g1", "stand twice"),
    ],
)
def test_what_would_make_a_result_untrue_is_refused(write: Callable[..., Path], row: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_dataset(write(*ROWS, row), ("normal", "covid"))


def test_a_missing_film_is_named(write: Callable[..., Path]) -> None:
    root = write(*ROWS)
    (root / "c.png").unlink()
    with pytest.raises(DataError, match=r"line 4: there is no file .*c\.png"):
        load_dataset(root, ("normal", "covid"))


@pytest.mark.parametrize(
    ("header", "words"), [("file,label,patient_id", "no column split"), ("file,label,split", "nobody can tell")]
)
def test_missing_columns_are_named(write: Callable[..., Path], header: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_dataset(write("a.png,normal,train", header=header), ("normal",))


def test_no_table_or_an_empty_one(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv"):
        load_dataset(tmp_path / "nowhere", ("normal",))
    with pytest.raises(DataError, match="no rows"):
        load_dataset(write(), ("normal",))


def test_an_empty_split_or_class_is_named(write: Callable[..., Path]) -> None:
    dataset = load_dataset(write(*ROWS[:3]), ("normal", "covid", "tuberculosis"))
    with pytest.raises(DataError, match="split=test"):
        dataset.split("test")
    with pytest.raises(DataError, match="no image of tuberculosis"):
        dataset.class_weights()


def test_what_is_missing_is_said_with_what_is_needed(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    columns = r"labels\.csv with the columns file, label, split .* and patient_id or group_id"
    for folder, words in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "empty", "no labels.csv")):
        with pytest.raises(DataError, match=rf"{folder}: there is {words}.*{columns}") as caught:
            load_dataset(folder, ("normal",))
        assert "Errno" not in str(caught.value)
    with pytest.raises(DataError, match=columns):
        load_dataset(write("a.png,normal", header="file,label"), ("normal",))


def test_the_balance_counts_images_and_patients(write: Callable[..., Path]) -> None:
    dataset = load_dataset(write(*ROWS), ("normal", "covid"))
    assert dataset.balance() == {
        "train": {"normal": (1, 1), "covid": (2, 1)},
        "val": {"normal": (1, 1), "covid": (0, 0)},
        "test": {"normal": (0, 0), "covid": (1, 1)},
    }


def test_oversampling_draws_rare_classes_again(write: Callable[..., Path]) -> None:
    rows = [f"{index}.png,{'covid' if index < 3 else 'normal'},train,p{index},g{index}" for index in range(10)]
    dataset = load_dataset(write(*rows), ("normal", "covid"))
    drawn = dataset.oversampled(np.random.default_rng(1))
    times = Counter(drawn)
    assert [times[index] for index in range(3, 10)] == [1] * 7
    assert sorted(times[index] for index in range(3)) == [2, 2, 3]
    assert drawn == dataset.oversampled(np.random.default_rng(1))
    assert any(drawn != dataset.oversampled(np.random.default_rng(seed)) for seed in range(2, 9))


def test_oversampling_a_class_without_films_is_refused(write: Callable[..., Path]) -> None:
    dataset = load_dataset(write(*ROWS), ("normal", "covid", "tuberculosis"))
    with pytest.raises(DataError, match="no image of tuberculosis in split=train"):
        dataset.oversampled(np.random.default_rng(1))


def test_the_fingerprint_is_that_of_films_labels_and_splits(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(*ROWS)
    mine = load_dataset(root, ("normal", "covid")).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", mine)
    assert load_dataset(root, ("covid", "normal")).fingerprint() != mine
    copy = shutil.copytree(root, tmp_path / "copy")
    assert load_dataset(copy, ("normal", "covid")).fingerprint() == mine
    table = (root / "labels.csv").read_text()
    for change in (("b.png,covid", "b.png,normal"), ("d.png,normal,val", "d.png,normal,test")):
        (root / "labels.csv").write_text(table.replace(*change))
        assert load_dataset(root, ("normal", "covid")).fingerprint() != mine


@pytest.mark.real_scans
def test_the_real_split_is_clean(scans: Path) -> None:
    dataset = load_dataset(scans / "cxr", ("normal", "pneumonia", "covid", "tuberculosis"))
    assert dataset.counts()["test"] == {"normal": 83, "pneumonia": 84, "covid": 59, "tuberculosis": 84}
