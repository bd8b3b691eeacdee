"""Films that share a patient or a group count as one patient's, also where a patient lies in two groups."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.training.dataset import Dataset, load_dataset
from models.training.sources import leave_one_source_out

LABELS = ("normal", "covid")
Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(*rows: str, header: str = "file,label,patient_id,group_id,source") -> Dataset:
        for row in rows:
            (tmp_path / row.split(",")[0]).write_text(row)
        (tmp_path / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
        return load_dataset(tmp_path, LABELS)

    return load


def others(source: str) -> list[str]:
    return [f"{source}{i}.png,{LABELS[i % 2]},{source}{i},,{source}" for i in range(24)]


def test_a_patient_in_two_groups_is_one_patient(load: Load) -> None:
    dataset = load("a.png,covid,P,G1,near", "b.png,covid,P,G2,far", *others("near"), *others("far"))
    of = {film.path.name: film.patient for film in dataset.films}
    assert of["a.png"] == of["b.png"] == "G1"
    found, _ = leave_one_source_out(dataset)
    for left_out in found.values():
        learnt = {film.path.name for film in left_out.split("train") + left_out.split("val")}
        assert not {"a.png", "b.png"} & learnt


def test_a_group_and_a_patient_of_the_same_name_are_two(load: Load) -> None:
    dataset = load("a.png,covid,P,7,near", "b.png,covid,7,,near", *others("near"))
    of = {film.path.name: film.patient for film in dataset.films}
    assert of["a.png"] == "7"
    assert of["b.png"] == "7 (b.png)"
