"""Real chest films of the test split, wrapped as DX."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.uid import generate_uid

from tests.support.objects import film, save


def wrap_films(scans: Path, folder: Path, count: int) -> list[Path]:
    """Wrap `count` films of the test split, the labels in turn; returns the files."""
    with (scans / "cxr" / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    by_label = {label: [r for r in rows if r["label"] == label] for label in sorted({r["label"] for r in rows})}
    chosen = [row for group in zip(*by_label.values(), strict=False) for row in group][:count]
    assert len(chosen) == count
    folder.mkdir(parents=True, exist_ok=True)
    return [_wrap(scans / "cxr" / row["file"], folder, number) for number, row in enumerate(chosen)]


def _wrap(picture: Path, folder: Path, number: int) -> Path:
    image = np.asarray(Image.open(picture).convert("L"))
    ds = film(
        image,
        StudyInstanceUID=generate_uid(prefix=None),
        PatientID=f"FILM{number:03d}",
        PatientName=f"Film^{number:03d}",
        AccessionNumber=f"ACC{number:03d}",
        BitsStored=8,
        HighBit=7,
        WindowCenter=128,
        WindowWidth=256,
        ImageType=["DERIVED", "PRIMARY"],
    )
    return save(ds, folder / f"film{number:03d}.dcm")
