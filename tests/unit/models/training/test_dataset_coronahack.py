"""CoronaHack: the table of metadata beside folders of films, as articles 002 and 004 use it."""

import csv
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.errors import DataError
from models.training.dataset import Dataset, load_dataset
from models.training.forms.coronahack import TABLE, patient
from tests.support.pictures import picture

LABELS = ("normal", "pneumonia", "covid")
HEADER = ["", "X_ray_image_name", "Label", "Dataset_type", "Label_2_Virus_category", "Label_1_Virus_category"]
KAGGLE = Path("Coronahack-Chest-XRay-Dataset") / "Coronahack-Chest-XRay-Dataset"

Row = tuple[str, str, str, str]


def some_rows() -> list[Row]:
    """Rows (name, label, split, virus) as in the set: 20 normal, 20 pneumonia, of which 10 COVID-19 in TRAIN."""
    rows = [(f"IM-{i:04}-0001.jpeg", "Normal", "TEST" if i < 5 else "TRAIN", "") for i in range(20)]
    rows += [(f"person{i}_virus_{9 * i}.jpeg", "Pnemonia", "TEST" if i < 5 else "TRAIN", "") for i in range(10)]
    rows += [(f"kjr-21-e{10 + i // 2}-g00{i}-l-a.jpg", "Pnemonia", "TRAIN", "COVID-19") for i in range(10)]
    return rows


def coronahack(root: Path, rows: Sequence[Row]) -> Path:
    """The folder as Kaggle gives it."""
    with (root / TABLE).open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(HEADER)
        table.writerows([index, *row, ""] for index, row in enumerate(rows))
    (root / "Chest_xray_Corona_dataset_Summary.csv").write_text(",Label,Image_Count\n")
    for number, (name, _, split, _) in enumerate(rows):
        picture(root / KAGGLE / split.lower() / name, number)
    return root


def test_the_label_is_ternary_and_some_covid_is_moved_to_the_test(tmp_path: Path) -> None:
    dataset = load_dataset(coronahack(tmp_path, some_rows()), LABELS)
    assert dataset.counts()["test"] == {"normal": 5, "pneumonia": 5, "covid": 2}
    assert dataset.counts()["val"] == {"normal": 2, "pneumonia": 1, "covid": 2}
    assert {film.patient for film in dataset.films if film.label == "covid" and film.split == "test"} == {"kjr-21-e14"}
    said = " ".join(dataset.notes)
    assert "Films of COVID-19 moved to the test set, which had none: 2 of 10." in said
    assert "Films named for a publication or at random: 10;" in said
    assert "15% of the training films were taken" in said
    assert Counter((film.source, film.age_group) for film in dataset.films) == {
        ("kermany", "paediatric"): 30,
        ("cohen", "unknown"): 10,
    }


def test_for_a_network_without_covid_it_stays_pneumonia_and_the_test_as_given(tmp_path: Path) -> None:
    dataset = load_dataset(coronahack(tmp_path, some_rows()), ("normal", "pneumonia"))
    assert dataset.counts()["test"] == {"normal": 5, "pneumonia": 5}
    assert sum(counts["pneumonia"] for counts in dataset.counts().values()) == 20
    assert "Films of COVID-19 that count as the pneumonia that the table calls them: 10." in dataset.notes
    assert not any("moved" in note for note in dataset.notes)


def test_a_test_set_with_covid_is_left_as_it_is(tmp_path: Path) -> None:
    rows = [*some_rows(), ("jkms-35-e79-g001-l-a.jpg", "Pnemonia", "TEST", "COVID-19")]
    dataset = load_dataset(coronahack(tmp_path, rows), LABELS)
    assert dataset.counts()["test"]["covid"] == 1


def test_rows_without_a_file_and_files_without_a_row_are_counted(tmp_path: Path) -> None:
    root = coronahack(tmp_path, some_rows())
    (root / KAGGLE / "test" / "IM-0000-0001.jpeg").unlink()
    (root / KAGGLE / "train" / "IM-0005-0001.jpeg").unlink()
    for number, name in enumerate(("train/person99_bacteria_1.jpeg", "test/.hidden.jpeg", "notes.txt")):
        picture(root / KAGGLE / name, 1000 + number)
    (root / KAGGLE / "notes.txt").write_text("not a film")
    dataset = load_dataset(root, LABELS)
    assert len(dataset.films) == 38
    said = " ".join(dataset.notes)
    assert "Rows of the table without a file, left out: 2 (IM-0000-0001.jpeg, IM-0005-0001.jpeg)." in said
    assert "Files without a row in the table, left out: 1 (person99_bacteria_1.jpeg)." in said
    assert "Left out as neither PNG, JPEG nor DICOM: 1 (" in said


def test_the_table_may_lie_anywhere_below_or_be_named(tmp_path: Path) -> None:
    root = coronahack(tmp_path, some_rows())
    (root / TABLE).rename(root / "Coronahack-Chest-XRay-Dataset" / TABLE)
    assert len(load_dataset(root, LABELS).films) == 40
    table = (root / "Coronahack-Chest-XRay-Dataset" / TABLE).rename(root / "renamed.csv")
    assert len(load_dataset(table, LABELS).films) == 40
    for name in ("a", "b"):
        (root / name).mkdir()
        shutil.copy(table, root / name / TABLE)
    with pytest.raises(DataError, match="there are 2 tables of CoronaHack"):
        load_dataset(root, LABELS)


def test_a_film_moved_by_hand_and_left_behind_is_taken_from_its_split(tmp_path: Path) -> None:
    root = coronahack(tmp_path, some_rows())
    shutil.copy(root / KAGGLE / "test" / "IM-0000-0001.jpeg", root / KAGGLE / "train")
    [film] = [film for film in load_dataset(root, LABELS).films if film.path.name == "IM-0000-0001.jpeg"]
    assert (film.path.parent.name, film.split) == ("test", "test")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("person1_virus_77.jpeg", "Pnemonia", "TRAIN", ""), r"patients .* 1, person1_virus \(test and train\)"),
        (("IM-0001-0001-0002.jpeg", "Normal", "TRAIN", ""), r"IM-0001 \(test and train\)"),
        (("person77_virus_1.jpeg", "Measles", "TRAIN", ""), "line 42: label 'Measles' is none of normal, pneumonia"),
        (("person77_virus_1.jpeg", "Normal", "HOLDOUT", ""), "line 42: Dataset_type 'HOLDOUT' is neither TRAIN nor"),
        (("IM-0001-0001.jpeg", "Normal", "TEST", ""), "line 42: IM-0001-0001.jpeg stands twice"),
    ],
)
def test_what_would_make_a_result_untrue_is_refused(tmp_path: Path, row: Row, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_dataset(coronahack(tmp_path, [*some_rows(), row]), LABELS)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text("X_ray_image_name,Label\na.jpeg,Normal\n")
    with pytest.raises(DataError, match="no column Dataset_type, Label_2_Virus_category"):
        load_dataset(tmp_path, LABELS)


def test_kinds_of_pneumonia_are_numbered_apart(tmp_path: Path) -> None:
    apart = (("person1_bacteria_2.jpeg", "Pnemonia"), ("NORMAL2-IM-0001-0001.jpeg", "Normal"))
    rows = [*some_rows(), *((name, label, "TRAIN", "") for name, label in apart)]
    assert len(load_dataset(coronahack(tmp_path, rows), LABELS).films) == 42


def test_a_training_film_with_the_bytes_of_a_test_film_goes_with_its_patient(tmp_path: Path) -> None:
    rows = [*some_rows(), ("person8_virus_78.jpeg", "Pnemonia", "TRAIN", "")]
    root = coronahack(tmp_path, rows)
    shutil.copy(root / KAGGLE / "test" / "person1_virus_9.jpeg", root / KAGGLE / "train" / "person8_virus_78.jpeg")
    dataset = load_dataset(root, LABELS)
    assert {film.split for film in dataset.films if film.patient_id == "person1_virus"} == {"test"}
    assert not [film for film in dataset.films if film.patient_id == "person8_virus"]
    assert "puts their patients into the test set too: 2." in " ".join(dataset.notes)
    shutil.copy(root / KAGGLE / "test" / "IM-0000-0001.jpeg", root / KAGGLE / "train" / "person8_virus_78.jpeg")
    dataset = load_dataset(root, LABELS)
    assert not {"IM-0000-0001.jpeg", "person8_virus_78.jpeg"} & {film.path.name for film in dataset.films}
    assert "Left out, as films with the same bytes have different labels: 2." in dataset.notes


def test_folds_cross_the_published_split(tmp_path: Path) -> None:
    root = coronahack(tmp_path, some_rows())
    datasets = [load_dataset(root, LABELS, folds=5, fold=fold) for fold in range(5)]
    assert not any("moved" in note for dataset in datasets for note in dataset.notes)
    tested = Counter(film.path.name for dataset in datasets for film in dataset.split("test"))
    assert tested == dict.fromkeys((name for name, *_ in some_rows()), 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("person447_virus_921_1.jpeg", "person447_virus"),
        ("NORMAL2-IM-0135-0001-0002.jpeg", "NORMAL2-IM-0135"),
        ("IM-0128-0001.jpeg", "IM-0128"),
        ("1-s2.0-S1684118220300682-main.pdf-003-b2.png", "1-s2.0-S1684118220300682"),
        ("41591_2020_819_Fig1_HTML.webp-day10.png", "41591_2020"),
        ("SARS-10.1148rg.242035193-g04mr34g07b-Fig7b-day12.jpeg", "SARS-10.1148rg.242035193"),
        ("acute-respiratory-distress-syndrome-ards-1.jpg", "acute-respiratory-distress-syndrome-ards"),
        ("jkms-35-e79-g001-l-c.jpg", "jkms-35-e79"),
        ("gr1_lrg-b.jpg", "gr1"),
        ("2C26F453-AF3B-4517-BB9E-802CF2179543.jpeg", "2C26F453-AF3B-4517-BB9E-802CF2179543"),
    ],
)
def test_whose_film_it_is_as_far_as_a_name_tells(name: str, expected: str) -> None:
    assert patient(name) == expected


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def apart(dataset: Dataset) -> bool:
    held = defaultdict(set)
    for film in dataset.films:
        held[film.patient].add(film.split)
    return all(len(splits) == 1 for splits in held.values())


@pytest.mark.real_scans
def test_the_whole_table_with_a_file_for_each_row(scans: Path, tmp_path: Path) -> None:
    rows = read(scans / "coronahack" / TABLE)
    shutil.copy(scans / "coronahack" / TABLE, tmp_path)
    for number, row in enumerate(rows):
        file = tmp_path / KAGGLE / row["Dataset_type"].lower() / row["X_ray_image_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\xff\xd8\xff" + number.to_bytes(4, "big"))
    dataset = load_dataset(tmp_path, LABELS)
    counts = dataset.counts()
    assert counts["test"] == {"normal": 234, "pneumonia": 390, "covid": 11}  # as in article 002
    assert {label: counts["train"][label] + counts["val"][label] for label in LABELS} == {
        "normal": 1342,
        "pneumonia": 3886,
        "covid": 47,
    }
    assert counts["val"] == pytest.approx({"normal": 201, "pneumonia": 583, "covid": 7}, abs=5)
    assert apart(dataset)
    assert sum(load_dataset(tmp_path, ("normal", "pneumonia")).counts()["test"].values()) == 624  # as in article 004
    folds = [load_dataset(tmp_path, LABELS, folds=5, fold=fold) for fold in range(5)]
    assert sum(len(fold.split("test")) for fold in folds) == 5910
    assert all(apart(fold) for fold in folds)


@pytest.mark.real_scans
def test_the_films_that_are_here_join_the_table(scans: Path, tmp_path: Path) -> None:
    names = {row["X_ray_image_name"]: row for row in read(scans / "coronahack" / TABLE)}
    shutil.copy(scans / "coronahack" / TABLE, tmp_path)
    labels = {}
    for row in read(scans / "cxr" / "labels.csv"):
        name = Path(row["original_file"]).name
        if name in names:
            folder = tmp_path / KAGGLE / names[name]["Dataset_type"].lower()
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(scans / "cxr" / row["file"], folder / name)
            labels[name] = row["label"]
    dataset = load_dataset(tmp_path, LABELS)
    assert {film.path.name: film.label for film in dataset.films} == labels
    assert len(labels) == 412
    assert any(note.startswith("Rows of the table without a file, left out: 5,498 (") for note in dataset.notes)
    assert apart(dataset)
