"""Labels from file names that end in `_0` and `_1`, as in the Shenzhen and Montgomery sets."""

import csv
import shutil
from pathlib import Path

import pytest

from models.errors import DataError
from models.training.dataset import load_dataset
from models.training.forms.file_names import patient_of
from tests.support.pictures import pictures

TUBERCULOSIS = ("normal", "tuberculosis")
SHENZHEN = [f"ChinaSet/CXR_png/CHNCXR_{i:04}_{int(i > 20)}.png" for i in range(1, 41)]


def test_0_is_without_finding_and_1_with(tmp_path: Path) -> None:
    dataset = load_dataset(pictures(tmp_path, *SHENZHEN), TUBERCULOSIS)
    assert len(dataset.films) == 40
    for film in dataset.films:
        assert film.label == TUBERCULOSIS[int(film.path.stem[-1])]
        assert (film.source, film.patient) == ("shenzhen", film.path.stem[:-2])
    assert {split: counts["normal"] for split, counts in dataset.counts().items()} == {"train": 14, "val": 3, "test": 3}
    assert "Labels were taken from the file names, and every name for a patient of its own." in dataset.notes


def test_both_sets_at_once_are_two_sources(tmp_path: Path) -> None:
    montgomery = [f"MontgomerySet/MCUCXR_{i:04}_{i % 2}.png" for i in range(40)]
    dataset = load_dataset(pictures(tmp_path, *SHENZHEN, *montgomery), TUBERCULOSIS)
    for split in ("val", "test"):
        assert {film.source for film in dataset.split(split)} == {"shenzhen", "montgomery"}


def test_the_network_may_have_other_labels_or_another_order(tmp_path: Path) -> None:
    root = pictures(tmp_path, *SHENZHEN)
    assert load_dataset(root, ("tuberculosis", "normal")).films == load_dataset(root, TUBERCULOSIS).films
    four = load_dataset(root, ("normal", "pneumonia", "covid", "tuberculosis"))
    assert {film.label for film in four.films} == {"normal", "tuberculosis"}
    pneumonia = load_dataset(root, ("normal", "pneumonia"))
    assert {film.label for film in pneumonia.films} == {"normal"}
    assert "Left out, as the network has no output for them: tuberculosis 20." in pneumonia.notes
    own = load_dataset(root, ("nothing", "active"))
    assert {film.label for film in own.films} == {"nothing", "active"}


def test_other_names_mean_the_one_finding_of_the_network(tmp_path: Path) -> None:
    root = pictures(tmp_path, *(f"{i}_{i % 2}.jpg" for i in range(20)))
    dataset = load_dataset(root, ("normal", "pneumonia"))
    assert all(film.label == dataset.labels[int(film.path.stem[-1])] for film in dataset.films)
    with pytest.raises(DataError, match=r"_1 means a finding, and the network has 2 \(pneumonia, covid\)"):
        load_dataset(root, ("normal", "pneumonia", "covid"))


def test_films_of_a_patient_stay_together(tmp_path: Path) -> None:
    names = [f"{kind}/patient{i // 3}_{i}_{i % 2}.png" for i in range(60) for kind in ("a", "b")]
    names += [f"twice_{i}_{label}.png" for i in range(20) for label in (0, 1)]  # before and after
    dataset = load_dataset(pictures(tmp_path, *names), ("normal", "pneumonia"))
    splits: dict[str, set[str]] = {}
    for film in dataset.films:
        splits.setdefault(film.patient, set()).add(film.split)
    assert len(splits) == 40
    assert {len(found) for found in splits.values()} == {1}


def test_a_folder_named_for_a_label_counts_more_than_a_name_unless_the_set_is_known(tmp_path: Path) -> None:
    one = pictures(tmp_path / "one", *(f"Pneumonia/{i}_{i % 2}.png" for i in range(20)))
    assert {film.label for film in load_dataset(one, ("normal", "pneumonia")).films} == {"pneumonia"}
    other = pictures(tmp_path / "other", *(f"Tuberculosis/{name}" for name in SHENZHEN))
    assert {film.label for film in load_dataset(other, TUBERCULOSIS).films} == set(TUBERCULOSIS)


def test_names_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    dataset = load_dataset(pictures(tmp_path, *SHENZHEN, "CHNCXR_0099.png", "x_2.png"), TUBERCULOSIS)
    assert "Left out, as their names end in neither _0 nor _1: 2." in dataset.notes


def test_a_split_of_folders_is_taken(tmp_path: Path) -> None:
    names = [f"{('train', 'Test')[i % 2]}/CHNCXR_{i:04}_{i // 2 % 2}.png" for i in range(40)]
    dataset = load_dataset(pictures(tmp_path, *names), TUBERCULOSIS)
    assert {film.path.parent.name.lower() for film in dataset.split("test")} == {"test"}
    assert len(dataset.split("test")) == 20


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person12_virus_45.jpeg", "person12_virus"),
        ("person12.png", "person12"),
        ("person12x.png", ""),
        ("Patient-7_view2", "Patient-7"),
        ("NORMAL2-IM-0123-0001.jpeg", "NORMAL2-IM-0123"),
        ("CHNCXR_0001", ""),
        ("00003518_000.png", ""),
    ],
)
def test_which_patient_a_name_tells_of(name: str, patient: str) -> None:
    assert patient_of(name) == patient


@pytest.mark.real_scans
def test_renamed_copies_of_real_films(scans: Path, tmp_path: Path) -> None:
    with (scans / "cxr" / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"] in TUBERCULOSIS][:100]
    for number, row in enumerate(rows):
        label = TUBERCULOSIS.index(row["label"])
        shutil.copy(scans / "cxr" / row["file"], tmp_path / f"CHNCXR_{number:04}_{label}.png")  # a JPEG, named a PNG
    dataset = load_dataset(tmp_path, TUBERCULOSIS)
    assert [film.label for film in dataset.films] == [row["label"] for row in rows]
