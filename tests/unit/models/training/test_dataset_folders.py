"""Labels from folders, with or without folders of the splits; which files are films."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.training.dataset import load_dataset
from models.training.forms.film_files import film_files, is_film
from tests.support.objects import film as dicom_film
from tests.support.objects import save
from tests.support.pictures import picture, pictures

LABELS = ("normal", "pneumonia")
UNSAID = "each counts as a patient of its own; nobody can tell"


def kermany(*splits: str) -> list[str]:
    names = []
    for number, split in enumerate(splits):
        people = range(100 * number, 100 * number + 20)
        names += [f"chest_xray/{split}/NORMAL/IM-{i:04}-000{k}.jpeg" for i in people for k in (1, 2)]
        names += [f"chest_xray/{split}/PNEUMONIA/person{i}_virus_{2 * i + k}.jpeg" for i in people for k in (1, 2)]
    return names


def test_the_split_of_the_folders_is_taken(tmp_path: Path) -> None:
    dataset = load_dataset(pictures(tmp_path, *kermany("train", "val", "test")), LABELS)
    assert dataset.counts() == {split: {"normal": 40, "pneumonia": 40} for split in ("train", "val", "test")}
    assert dataset.balance()["train"]["pneumonia"] == (40, 20)
    assert dataset.notes == ()
    assert {film.source for film in dataset.films} == {"unknown"}


def test_a_set_packed_twice_is_taken_once(tmp_path: Path) -> None:
    root = pictures(tmp_path, *kermany("train", "val", "test")) / "chest_xray"
    shutil.copytree(root, tmp_path / "again" / "chest_xray")
    dataset = load_dataset(tmp_path, LABELS)
    assert dataset.counts() == {split: {"normal": 40, "pneumonia": 40} for split in ("train", "val", "test")}
    assert dataset.notes == ("Left out, as another film has the same bytes: 240.",)


def test_train_and_test_alone_get_a_validation_part_by_patient(tmp_path: Path) -> None:
    dataset = load_dataset(pictures(tmp_path, *kermany("train", "test")), LABELS)
    assert dataset.counts()["val"] == {"normal": 6, "pneumonia": 6}
    assert dataset.counts()["test"] == {"normal": 40, "pneumonia": 40}
    assert not {f.patient for f in dataset.split("val")} & {f.patient for f in dataset.split("train")}


def test_a_folder_of_training_films_alone_is_split(tmp_path: Path) -> None:
    dataset = load_dataset(pictures(tmp_path, *kermany("train")), LABELS)
    assert dataset.counts()["test"] == {"normal": 6, "pneumonia": 6}


def test_a_folder_of_test_films_alone_stays_one(tmp_path: Path) -> None:
    assert len(load_dataset(pictures(tmp_path, *kermany("test")), LABELS).split("test")) == 80


def test_a_split_that_leaks_is_refused_with_what_to_do(tmp_path: Path) -> None:
    root = pictures(tmp_path, *kermany("train", "test"))
    picture(root / "chest_xray/test/PNEUMONIA/person3_virus_999.jpeg", 999)
    with pytest.raises(DataError, match=r"patients .* 1, person3_virus \(test and train\).*or let folds be made"):
        load_dataset(root, LABELS)
    assert load_dataset(root, LABELS, folds=4).films
    (root / "chest_xray/test/PNEUMONIA/person3_virus_999.jpeg").unlink()
    shutil.copy(root / kermany("train")[0], root / "chest_xray/test/NORMAL/copy.jpeg")
    with pytest.raises(DataError, match=r"films .* 1, .*copy\.jpeg \(test\) and .*IM-0000-0001\.jpeg \(train\)"):
        load_dataset(root, LABELS)


def test_films_outside_the_splits_are_refused(tmp_path: Path) -> None:
    root = pictures(tmp_path, *kermany("train", "test"), "chest_xray/NORMAL/more.png")
    with pytest.raises(DataError, match=r"1 films lie in none of the folders train, val and test.*more\.png"):
        load_dataset(root, LABELS)


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (("CT_COVID", "CT_NonCOVID"), ("covid", "non-covid")),
        (("COVID", "non-COVID"), ("covid", "non-covid")),
        (("COVID-19", "Viral Pneumonia", "Normal"), ("covid", "pneumonia", "normal")),
        (("Tuberculosis", "HEALTHY"), ("tuberculosis", "normal")),
        (("tb", "no_finding"), ("tuberculosis", "normal")),
        (("Effusion", "normal"), ("effusion", "No Finding")),
    ],
)
def test_folders_go_by_the_usual_names(tmp_path: Path, folders: tuple[str, ...], labels: tuple[str, ...]) -> None:
    pictures(tmp_path, *(f"Images/{folder}/{i}.png" for folder in folders for i in range(10)))
    dataset = load_dataset(tmp_path, labels)
    assert {(film.path.parent.name, film.label) for film in dataset.films} == set(zip(folders, labels, strict=True))
    assert any(UNSAID in note for note in dataset.notes)


def test_the_nearest_folder_says_the_label(tmp_path: Path) -> None:
    names = [f"tuberculosis/{label}/{i}.png" for label in ("normal", "tb") for i in range(10)]
    names += [f"pneumonia/bacterial/{i}.png" for i in range(10)]
    dataset = load_dataset(pictures(tmp_path, *names), ("normal", "pneumonia", "tuberculosis"))
    assert sum(counts["normal"] for counts in dataset.counts().values()) == 10
    assert sum(counts["pneumonia"] for counts in dataset.counts().values()) == 10


def test_what_a_folder_is_named_for_has_to_be_a_label(tmp_path: Path) -> None:
    names = [f"{folder}/{i}.png" for folder in ("normal", "pneumonia", "covid") for i in range(10)]
    dataset = load_dataset(pictures(tmp_path, *names, "figure.png"), LABELS)
    said = " ".join(dataset.notes)
    assert "Left out, as the network has no output for them: covid 10." in said
    assert "Left out, as outside the folders of the classes: 1." in said
    picture(tmp_path / "Lung_Opacity" / "images" / "1.png", 1)
    with pytest.raises(DataError, match=r"Lung_Opacity/images: films lie in it, and its name is none of normal, pneum"):
        load_dataset(tmp_path, LABELS)


def test_masks_are_no_films(tmp_path: Path) -> None:
    names = [f"{label}/{kind}/{i}.png" for label in LABELS for kind in ("images", "masks") for i in range(10)]
    dataset = load_dataset(pictures(tmp_path, *names), LABELS)
    assert len(dataset.films) == 20
    assert "Left out as masks: 20." in dataset.notes
    assert any(UNSAID in note for note in dataset.notes)  # a folder "images" is no patient


def test_folders_of_patients_in_the_classes_hold_films_together(tmp_path: Path) -> None:
    names = [f"{label}/{label}-{i // 4}/{i}.png" for label in LABELS for i in range(80)]
    dataset = load_dataset(pictures(tmp_path, *names), LABELS)
    assert dataset.balance()["train"]["normal"] == (56, 14)
    assert "Folders within the classes were taken for patients." in dataset.notes
    assert not any(UNSAID in note for note in dataset.notes)


def test_copies_are_left_out_and_contradictions_too(tmp_path: Path) -> None:
    root = pictures(tmp_path, *(f"{label}/{i}.png" for label in LABELS for i in range(20)))
    for name in ("a.png", "b.png"):
        shutil.copy(root / "normal" / "1.png", root / "normal" / name)
    shutil.copy(root / "normal" / "2.png", root / "pneumonia" / "c.png")
    dataset = load_dataset(root, LABELS)
    assert "Left out, as another film has the same bytes: 2." in dataset.notes
    assert "Left out, as films with the same bytes have different labels: 2." in dataset.notes
    left = {str(film.path.relative_to(root)) for film in dataset.films}
    assert len(left) == 39
    assert not {"normal/a.png", "normal/b.png", "normal/2.png", "pneumonia/c.png"} & left


def test_films_that_differ_in_one_byte_are_two(tmp_path: Path) -> None:
    root = pictures(tmp_path, *(f"{label}/{i}.png" for label in LABELS for i in range(3)))
    start = (root / "normal" / "0.png").read_bytes() + bytes(60_000)
    for name, end in (("a", b"a"), ("b", b"b"), ("c", b"b")):
        (root / "normal" / f"{name}.png").write_bytes(start + end)
    assert len(load_dataset(root, LABELS).films) == 8


def test_two_labels_of_one_meaning_are_told_by_their_own_names(tmp_path: Path) -> None:
    own = ("normal", "viral pneumonia", "bacterial pneumonia")
    root = pictures(tmp_path, *(f"{folder}/{i}.png" for folder in (*own, "Pneumonia") for i in range(9)))
    dataset = load_dataset(root, own)
    assert {(film.path.parent.name, film.label) for film in dataset.films} == {(label, label) for label in own}
    assert "Left out, as the network has no output for them: pneumonia 9." in dataset.notes


def test_patients_who_share_a_copy_stay_together(tmp_path: Path) -> None:
    root = pictures(tmp_path, *(f"{x}/patient{i}_{k}.png" for x in LABELS for i in range(20) for k in range(3)))
    for label in LABELS:
        for i in range(0, 20, 2):
            shutil.copy(root / label / f"patient{i}_0.png", root / label / f"patient{i + 1}_0.png")
            shutil.copy(root / label / f"patient{i}_0.png", root / label / f"patient{i}_3.png")
    dataset = load_dataset(root, ("normal", "pneumonia"), seed=2)
    splits = {(film.label, film.patient_id): film.split for film in dataset.films}
    assert all(splits[x, f"patient{i}"] == splits[x, f"patient{i + 1}"] for x in LABELS for i in range(0, 20, 2))


def test_too_few_patients_for_every_split_is_said(tmp_path: Path) -> None:
    dataset = load_dataset(pictures(tmp_path, *(f"normal/{i}.png" for i in range(9)), "pneumonia/1.png"), LABELS)
    assert "pneumonia has too few patients to be in every split: none is in test." in dataset.notes
    with pytest.raises(DataError, match="3 folds are more than the 1 patients with pneumonia"):
        load_dataset(tmp_path, LABELS, folds=3)


def test_the_split_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    one = pictures(tmp_path / "one", *(f"{label}/{i}.png" for label in LABELS for i in range(30)))
    other = shutil.copytree(one, tmp_path / "other")
    assert load_dataset(one, LABELS).fingerprint() == load_dataset(other, LABELS).fingerprint()


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture(tmp_path_factory.mktemp("outside") / "elsewhere.png", 1000)


def test_hidden_files_and_links_that_lead_out_are_not_looked_at(tmp_path: Path, outside: Path) -> None:
    pictures(tmp_path, "normal/1.png", ".trash/normal/2.png", "normal/._1.png", "__MACOSX/normal/3.png")
    (tmp_path / "normal" / "link.png").symlink_to(outside)
    (tmp_path / "pneumonia").symlink_to(outside.parent)
    (tmp_path / "normal" / "within.png").symlink_to(tmp_path / "normal" / "1.png")
    (tmp_path / "normal" / "again").symlink_to(tmp_path / "normal")
    (tmp_path / "normal" / "nowhere.png").symlink_to(tmp_path / "normal" / "gone.png")
    files, notes = film_files(tmp_path)
    assert [path.name for path in files] == ["1.png", "within.png"]
    assert notes == [
        "Left out as neither PNG, JPEG nor DICOM: 1 (normal/nowhere.png).",
        "Links that lead out of the folder, not followed: 2 (pneumonia, normal/link.png).",
    ]


@pytest.fixture
def dicom(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: save(dicom_film(np.zeros((4, 4), np.uint8)), tmp_path / name)


def test_content_says_what_a_film_is(tmp_path: Path, dicom: Callable[[str], Path]) -> None:
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(dicom("x").read_bytes()[132:])
    assert is_film(bare)
    assert is_film(bare.rename(tmp_path / "bare"))
    assert not is_film((tmp_path / "bare").rename(tmp_path / "bare.bin"))
    for name in ("1.2.840.3", "film.dcm", "film.bin"):
        assert is_film(dicom(name))
    assert not is_film(dicom("DICOMDIR"))
    assert is_film(picture(tmp_path / "film.jpeg", 1).rename(tmp_path / "picture"))
    for name, content in (("page.dcm", b"<html>"), ("empty.png", b""), ("notes.txt", b"\x08\x00 and so on")):
        (tmp_path / name).write_bytes(content)
        assert not is_film(tmp_path / name)


@pytest.mark.real_scans
def test_real_dicom_files_are_told_from_what_is_none(scans: Path) -> None:
    files, notes = film_files(scans / "dicom" / "files")
    everything = [path for path in (scans / "dicom" / "files").iterdir() if not path.name.startswith(".")]
    assert 140 <= len(files) <= len(everything)
    assert not [path for path in files if path.name.endswith("deed-learning__test1.dcm")]
    assert "neither PNG, JPEG nor DICOM" in notes[0]


@pytest.mark.real_scans
def test_real_slices_in_folders(scans: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted((scans / "ct" / "images").iterdir())[:60]):
        folder = tmp_path / ("CT_COVID", "CT_NonCOVID")[index % 2]
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
    assert len(load_dataset(tmp_path, ("non-covid", "covid")).films) == 60
