"""The phantoms: valid objects of many kinds, decodable, the same for a seed, and different where they shall be."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_voi_lut, pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.support.objects import header_texts
from worker.demo.film import Pattern, frontal
from worker.demo.other_views import axial
from worker.demo.phantoms import FILMS, Phantom, generate
from worker.intake.routing import Router

MOMENT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
SMALL = {"film_pixels": 256, "ct_pixels": 128}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Phantom]:
    return list(generate(tmp_path_factory.mktemp("phantoms"), seed=1, moment=MOMENT, **SMALL))


@pytest.fixture(scope="module")
def datasets(phantoms: list[Phantom]) -> list[Dataset]:
    return [dcmread(phantom.path) for phantom in phantoms if phantom.expected != {"failed"}]


def test_every_kind_is_there(datasets: list[Dataset], phantoms: list[Phantom]) -> None:
    syntaxes = {ds.file_meta.TransferSyntaxUID for ds in datasets}
    wanted = {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless}
    assert syntaxes == wanted
    assert {ds.Modality for ds in datasets} == {"DX", "CR", "CT", "SR"}
    assert {ds.get("PhotometricInterpretation") for ds in datasets} == {"MONOCHROME1", "MONOCHROME2", None}
    assert {ds.BitsStored for ds in datasets if "BitsStored" in ds} == {12, 14, 16}
    assert {status for phantom in phantoms for status in phantom.expected} == {"complete", "failed", "not_eligible"}
    assert sum(ds.Modality == "CT" for ds in datasets) == 6


def test_what_is_expected_of_the_ct_depends_on_whether_there_is_a_model(tmp_path: Path) -> None:
    def expected(*models: str) -> set[str]:
        made = generate(tmp_path / "-".join(("models", *models)), models=models, film_pixels=64, ct_pixels=64)
        return {status for phantom in made if "-ct" in phantom.path.name for status in phantom.expected}

    assert expected("chest_xray_triage") == {"not_eligible"}
    assert expected("chest_xray_triage", "chest_ct_covid") == {"complete"}


def test_the_ct_goes_to_the_ct_model_every_slice_of_it(datasets: list[Dataset]) -> None:
    router = Router((), {"chest_ct_covid": ["1.0.0"]})
    slices = [ds for ds in datasets if ds.Modality == "CT"]
    assert [router.decide(header_texts(ds)).models for ds in slices] == [("chest_ct_covid@1.0.0",)] * 6


def test_all_say_phantom_and_belong_together_as_they_should(datasets: list[Dataset], phantoms: list[Phantom]) -> None:
    assert all(str(ds.PatientName).startswith("PHANTOM^") for ds in datasets)
    uids = [phantom.sop_instance_uid for phantom in phantoms]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    for key in ("PatientID", "AccessionNumber", "StudyInstanceUID"):
        assert len({getattr(ds, key) for ds in datasets}) == 8
    assert len({ds.SeriesInstanceUID for ds in datasets if ds.Modality == "CT"}) == 1


@pytest.mark.peer("dciodvfy")
def test_each_is_valid_by_its_iod(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        if phantom.expected == {"failed"}:
            continue
        done = subprocess.run(["dciodvfy", "-new", phantom.path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{phantom.path.name}: {done.stderr}"
        assert "Error" not in done.stderr


def test_all_pixels_can_be_decoded_and_show_a_chest(datasets: list[Dataset]) -> None:
    for ds in datasets:
        if ds.Modality not in {"DX", "CR"}:
            continue
        shown = apply_voi_lut(pixel_array(ds), ds).astype(float)
        shown = (shown - shown.min()) / np.ptp(shown)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            shown = 1 - shown
        if ds.ViewPosition != "LL":  # the spine is bright, the air beside the neck is dark
            assert shown[:, 120:136].mean() > 0.55
            assert shown[:16, :64].mean() < 0.1


def test_the_cut_one_is_cut(phantoms: list[Phantom]) -> None:
    (cut,) = [phantom for phantom in phantoms if phantom.expected == {"failed"}]
    ds = dcmread(cut.path, stop_before_pixels=True)
    assert ds.SOPInstanceUID == cut.sop_instance_uid
    assert cut.path.stat().st_size < ds.Rows * ds.Columns * 2


def test_a_seed_gives_the_same_bytes_and_none_gives_fresh_uids(phantoms: list[Phantom], tmp_path: Path) -> None:
    again = list(generate(tmp_path / "a", seed=1, moment=MOMENT, **SMALL))
    assert [p.path.read_bytes() for p in again] == [p.path.read_bytes() for p in phantoms]
    first, second = (next(generate(tmp_path / name, moment=MOMENT, **SMALL)) for name in "bc")
    assert first.study_instance_uid != second.study_instance_uid
    assert first.sop_instance_uid != second.sop_instance_uid
    shutil.rmtree(tmp_path)


RIGHT_LOWER = (slice(150, 185), slice(50, 85))
RIGHT_UPPER = (slice(60, 85), slice(65, 95))
LEFT_MIDDLE = (slice(130, 165), slice(175, 210))
LEFT_HILUM = (slice(103, 117), slice(176, 190))


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        (Pattern.LOBAR_OPACITY, RIGHT_LOWER),
        (Pattern.GROUND_GLASS, RIGHT_LOWER),
        (Pattern.GROUND_GLASS, LEFT_MIDDLE),
        (Pattern.UPPER_LOBE, RIGHT_UPPER),
        (Pattern.NODULE, LEFT_HILUM),
    ],
)
def test_disease_makes_the_lung_brighter_where_it_sits(pattern: Pattern, place: tuple[slice, slice]) -> None:
    clear, ill = (frontal(256, 5, which) for which in (Pattern.CLEAR, pattern))
    assert ill[place].mean() > clear[place].mean() + 0.04


def test_each_film_shows_something_else_and_no_name_promises_a_diagnosis() -> None:
    assert {film.pattern for film in FILMS} == set(Pattern)
    assert len(FILMS) == len(Pattern)
    for word in ("CLEAR", "NORMAL", "PNEUMONIA", "COVID", "TUBERC", "GLASS", "LOB"):
        assert not any(word in film.name for film in FILMS)


def test_a_lobar_opacity_leaves_the_other_lung_alone() -> None:
    clear, ill = (frontal(256, 5, which) for which in (Pattern.CLEAR, Pattern.LOBAR_OPACITY))
    assert abs(ill[LEFT_MIDDLE].mean() - clear[LEFT_MIDDLE].mean()) < 0.03


def test_seeds_differ_and_values_are_brightness() -> None:
    one, other = frontal(256, 1, Pattern.CLEAR), frontal(256, 2, Pattern.CLEAR)
    assert one.dtype == np.float32
    assert 0 <= one.min() < 0.1
    assert 0.8 < one.max() <= 1
    assert np.abs(one - other).mean() > 0.01


def test_ct_is_in_hounsfield_units() -> None:
    slice_ = axial(128, 1, 0.5)
    assert slice_.dtype == np.int16
    assert slice_[:8, :8].mean() == pytest.approx(-1000, abs=30)
    assert slice_[60:70, 30:44].mean() < -600
    assert slice_.max() > 200
