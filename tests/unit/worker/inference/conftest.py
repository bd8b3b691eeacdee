"""One warm reader for the tests of a module, as a worker has one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from models.card import Window
from tests.support.objects import save
from worker.inference.pixels import Frame, PixelReader


@pytest.fixture(scope="module")
def reader() -> Iterator[PixelReader]:
    with PixelReader(seconds=30, memory_bytes=1 << 30) as reader:
        yield reader


@pytest.fixture
def show(reader: PixelReader, tmp_path: Path) -> Any:
    def show(
        ds: Dataset,
        policy: str = "first",
        transfer_syntax: str = "1.2.840.10008.1.2.1",
        window: Window | None = None,
    ) -> Frame:
        return reader.read(save(ds, tmp_path / "object.dcm", transfer_syntax), policy, window)

    return show
