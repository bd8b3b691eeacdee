"""A pipeline whose reports a PACS takes at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakes import make_pipeline
from tests.support.retention import PACS
from worker.pipeline import Pipeline
from worker.reporting import pacs


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    monkeypatch.setattr(pacs, "deliver", lambda *_, **__: pacs.Delivered(sop_class_uid="1.2", status=0, warning=None))
    made = make_pipeline(database_url, tmp_path, destinations=[PACS])
    yield made
    made.database.dispose()
