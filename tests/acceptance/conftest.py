"""The PACS of acceptance tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import Storescp


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Storescp]:
    """A storescp that is not started yet; what it is sent twice is one file."""
    made = Storescp(tmp_path / "pacs")
    yield made
    made.stop()


@pytest.fixture
def counting_pacs(tmp_path: Path) -> Iterator[Storescp]:
    """A storescp, started, that keeps a file for each time it is sent something."""
    with Storescp(tmp_path / "pacs", every_arrival=True) as made:
        yield made
