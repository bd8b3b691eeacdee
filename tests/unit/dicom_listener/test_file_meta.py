"""The head of a spooled file is one that pydicom reads back, value by value."""

from io import BytesIO

import pydicom
import pytest
from pydicom.filereader import read_preamble

from dicom_listener.file_meta import IMPLEMENTATION_VERSION_NAME, encode_head
from worker.uids import IMPLEMENTATION_CLASS_UID


@pytest.mark.parametrize("calling_ae", ["A", "EVEN", "SIXTEEN_CHARS_AE"])
@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34", "2.25." + "9" * 38, "1." + "2" * 62])
def test_it_is_read_back(calling_ae: str, instance: str) -> None:
    head = encode_head(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=instance,
        transfer_syntax_uid="1.2.840.10008.1.2.4.70",
        calling_ae=calling_ae,
        called_ae="FIRSTREAD",
    )
    file = BytesIO(head)
    assert read_preamble(file, force=False) == b"\0" * 128
    meta = pydicom.dcmread(BytesIO(head)).file_meta
    assert meta.FileMetaInformationGroupLength == len(head) - 132 - 12
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert meta.MediaStorageSOPInstanceUID == instance
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert meta.SourceApplicationEntityTitle == calling_ae
    assert meta.ReceivingApplicationEntityTitle == "FIRSTREAD"


def test_the_implementation_keeps_its_name() -> None:
    assert IMPLEMENTATION_CLASS_UID == "2.25.146897049563585766593486175816527262859"
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16
