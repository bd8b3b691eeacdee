"""A data directory of the test's own, and the process's logs as they were."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from models import conversion
from models.registry import SHIPPED
from tests.support.model_commands import MODEL, SHIPPED_VERSION


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FIRSTREAD_CONFIG", str(tmp_path / "firstread.toml"))
    (tmp_path / "firstread.toml").write_text("")


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """The commands send the process's log to the standard error of their own, which ends with each call."""
    root, pydicom_logger = logging.getLogger(), logging.getLogger("pydicom")
    handlers, level, pydicom_level, config = root.handlers[:], root.level, pydicom_logger.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    pydicom_logger.setLevel(pydicom_level)
    structlog.configure(**config)
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def quick_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX file is compared with Keras over a few images: that it is over many, test_conversion sees to."""
    monkeypatch.setattr(conversion, "MAX_BATCH", 3)
    monkeypatch.setattr(conversion, "INPUTS", 4)


@pytest.fixture
def added(tmp_path: Path) -> Path:
    """The shipped model under another name, as a hospital's own package would come."""
    folder = tmp_path / "from elsewhere"
    shutil.copytree(SHIPPED / MODEL / SHIPPED_VERSION, folder)
    card = json.loads((folder / "card.json").read_text()) | {"name": "our_own", "version": "2.0.0"}
    (folder / "card.json").write_text(json.dumps(card))
    return folder
