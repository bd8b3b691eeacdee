"""Loads: valid objects, each with UIDs of its own, of the size that is said."""

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.bench.loads import radiograph, scans_in, slice_of_ct
from worker.errors import SettingsError


def test_objects_have_uids_of_their_own_and_the_same_size(tmp_path: Path) -> None:
    load = radiograph(512)
    paths = load.write(tmp_path, 3)
    read = [dcmread(path) for path in paths]
    assert {ds.SOPInstanceUID for ds in read} == {load.sendable(number).sop_instance_uid for number in (1, 2, 3)}
    assert {ds.file_meta.MediaStorageSOPInstanceUID for ds in read} == {ds.SOPInstanceUID for ds in read}
    assert len({ds.StudyInstanceUID for ds in read}) == len({ds.PatientID for ds in read}) == 3
    assert {len(load.sendable(number).head) for number in (1, 12345)} == {len(load.head)}
    assert read[0].pixel_array.shape == (512, 512)


def test_they_are_as_large_as_what_modalities_send() -> None:
    assert slice_of_ct().size == pytest.approx(0.52e6, rel=0.02)
    assert radiograph().size == pytest.approx(8.4e6, rel=0.01)


def test_own_scans_are_found_among_other_files(tmp_path: Path) -> None:
    slice_of_ct(128).write(tmp_path / "below", 2)
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert [path.parent.name for path in scans_in(tmp_path, 5)] == ["below", "below"]
    assert len(scans_in(tmp_path, 1)) == 1
    (tmp_path / "none").mkdir()
    with pytest.raises(SettingsError, match="no uncompressed DICOM image"):
        scans_in(tmp_path / "none", 5)
