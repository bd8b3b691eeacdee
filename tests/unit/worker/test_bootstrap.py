"""How many children a worker decodes with."""

import pytest

from worker import bootstrap
from worker.config import Settings


@pytest.mark.parametrize(("settings", "count"), [
    ({"decoders": 3}, 3), ({"decoders": 20, "inference_workers": 4}, 20),
    ({"inference_workers": 1}, 8), ({"inference_workers": 4}, 4),
])  # fmt: skip
def test_the_children_that_decode(monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], count: int) -> None:
    monkeypatch.setattr(bootstrap, "usable_cores", lambda: 16)
    assert bootstrap.pixel_readers(Settings(**settings)).count == count
