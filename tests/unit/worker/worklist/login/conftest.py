"""A worklist that is served, with its door; passwords that cost little."""

from collections.abc import Iterator

import pytest

from tests.support.accounts import Site, cheap_passwords, site


@pytest.fixture(scope="module", autouse=True)
def _cheap() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        cheap_passwords(monkeypatch)
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for the tests of a module, with an account of each role made when it is asked for."""
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made
