"""A `labels.csv` is read, a split that tears a patient apart is refused, in words."""

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
            (tmp_path / row.split(",")[0]).write_bytes(row.encode())
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
        ("f.png,normal,test,p6,g1", r"patients or groups .* 1, g1 \(test and train\)"),
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
    ("header", "words"), [("file,split,patient_id", "no column label"), ("file,label,split", "nobody can tell")]
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
    for folder, words in ((tmp_path / "nowhere", "there is no such folder"), (tmp_path / "empty", "of 0 films in it")):
        with pytest.raises(DataError, match=rf"{folder}: {words}.*{columns}") as caught:
            load_dataset(folder, ("normal",))
        assert "Errno" not in str(caught.value)
    with pytest.raises(DataError, match=columns):
        load_dataset(write("a.png,normal", header="file,name"), ("normal",))


def test_the_table_itself_may_be_named(write: Callable[..., Path]) -> None:
    root = write(*ROWS)
    (root / "labels.csv").rename(root / "mine.csv")
    dataset = load_dataset(root / "mine.csv", ("normal", "covid"))
    assert len(dataset.films) == 5
    assert dataset.root == root


def test_labels_that_only_the_project_knows_are_left_out_and_counted(write: Callable[..., Path]) -> None:
    dataset = load_dataset(write(*ROWS, "f.png,tuberculosis,test,p6,g6"), ("normal", "pneumonia", "tuberculosis"))
    assert [film.path.name for film in dataset.films] == ["a.png", "d.png", "f.png"]
    assert dataset.notes == ("Left out, as the network has no output for them: covid 3.",)
    with pytest.raises(DataError, match="no film has a label of the network, which are effusion"):
        load_dataset(dataset.root, ("effusion",))


def test_labels_go_by_other_names(write: Callable[..., Path]) -> None:
    rows = [row.replace("normal", "Healthy").replace("covid", "COVID-19") for row in ROWS]
    assert {film.label for film in load_dataset(write(*rows), ("normal", "covid")).films} == {"normal", "covid"}


def test_the_same_bytes_in_two_splits_are_refused(write: Callable[..., Path]) -> None:
    root = write(*ROWS)
    shutil.copy(root / "a.png", root / "e.png")
    with pytest.raises(
        DataError, match=r"films that lie in more than one split.* 1, a\.png \(train\) and e\.png \(test\)"
    ):
        load_dataset(root, ("normal", "covid"))
    shutil.copy(root / "d.png", root / "e.png")
    (root / "a.png").write_bytes((root / "b.png").read_bytes())
    (root / "d.png").write_bytes(b"another")
    assert (
        "Left out, as films with the same bytes have different labels: 2."
        in load_dataset(root, ("normal", "covid")).notes
    )
    shutil.copy(root / "b.png", root / "c.png")
    (root / "a.png").write_bytes(b"one more")
    dataset = load_dataset(root, ("normal", "covid"))
    assert [film.path.name for film in dataset.split("train")] == ["a.png", "b.png"]
    assert "Left out, as another film has the same bytes: 1." in dataset.notes


def test_a_group_and_a_patient_of_one_name_are_two_things(write: Callable[..., Path]) -> None:
    rows = ("a.png,normal,train,1,2", "b.png,normal,test,2,1", "c.png,normal,val,3,3")
    assert len(load_dataset(write(*rows), ("normal",)).films) == 3


def test_without_a_split_one_is_made_by_patient_and_group(write: Callable[..., Path]) -> None:
    rows = [f"{i}.png,{'covid' if i % 4 else 'normal'},p{i // 2},g{i // 4 if i < 8 else i}" for i in range(200)]
    root = write(*rows, header="file,label,patient_id,group_id")
    dataset = load_dataset(root, ("normal", "covid"), seed=3)
    assert dataset.counts()["train"]["normal"] == pytest.approx(35, abs=3)
    assert dataset.counts()["test"]["covid"] == pytest.approx(150 * 0.15, abs=3)
    assert len({film.split for film in dataset.films[:4]}) == len({film.split for film in dataset.films[4:8]}) == 1
    assert "by patient, label and source: 70% train, 15% val, 15% test (seed 3)" in dataset.notes[0]
    assert dataset == load_dataset(root, ("normal", "covid"), seed=3)
    assert dataset.fingerprint() != load_dataset(root, ("normal", "covid"), seed=4).fingerprint()


def test_a_column_of_empty_splits_is_none(write: Callable[..., Path]) -> None:
    rows = [f"{i}.png,normal,,p{i},g{i}" for i in range(20)]
    assert load_dataset(write(*rows), ("normal",)).counts()["train"]["normal"] == 14


def test_a_validation_part_is_made_where_there_is_none(write: Callable[..., Path]) -> None:
    rows = [f"{i}.png,normal,{'test' if i < 10 else 'train'},p{i // 2},g{i // 2}" for i in range(50)]
    dataset = load_dataset(write(*rows), ("normal",), seed=1)
    assert {split: counts["normal"] for split, counts in dataset.counts().items()} == {
        "train": 34,
        "val": 6,
        "test": 10,
    }
    assert "No validation part is given: 15% of the training films" in dataset.notes[0]


def test_folds_take_the_place_of_the_split(write: Callable[..., Path]) -> None:
    root = write(*(f"{i}.png,normal,{'test' if i % 2 else 'train'},p{i},g{i}" for i in range(50)))
    folds = [load_dataset(root, ("normal",), folds=5, fold=fold) for fold in range(5)]
    tested = [film.path.name for dataset in folds for film in dataset.split("test")]
    assert sorted(tested) == sorted(f"{i}.png" for i in range(50))
    for before, after in zip(folds, [*folds[1:], folds[0]], strict=True):
        assert {film.path for film in before.split("val")} == {film.path for film in after.split("test")}
    assert folds[1].notes == (
        "Of 5 folds made by patient, fold 1 tests and fold 2 validates.",
        "The split given in the data was not used.",
    )


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
def test_real_slices_are_of_two_labels(scans: Path) -> None:
    dataset = load_dataset(scans / "ct", ("non-covid", "covid"))
    assert dataset.counts()["test"] == {"non-covid": 163, "covid": 158}


@pytest.mark.real_scans
def test_real_films_in_folds(scans: Path) -> None:
    datasets = [load_dataset(scans / "cxr", ("normal", "tuberculosis"), folds=5, fold=fold) for fold in range(5)]
    assert sum(len(dataset.split("test")) for dataset in datasets) == 834
    for dataset in datasets:
        held: dict[str, set[str]] = {}
        for film in dataset.films:
            held.setdefault(film.patient, set()).add(film.split)
        assert {len(splits) for splits in held.values()} == {1}
        assert all(75 <= count <= 92 for count in dataset.counts()["test"].values())


@pytest.mark.real_scans
def test_the_real_split_is_clean(scans: Path) -> None:
    dataset = load_dataset(scans / "cxr", ("normal", "pneumonia", "covid", "tuberculosis"))
    assert dataset.counts()["test"] == {"normal": 83, "pneumonia": 84, "covid": 59, "tuberculosis": 84}
