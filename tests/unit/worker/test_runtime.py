"""A worker's classifier computes as the settings ask, and says where it does not."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from models.classifier import Classifier
from models.registry import Registry
from worker.config import Settings


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_mixed_precision_that_the_card_does_not_allow_is_float32_and_loud(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker import tasks

    asked = Settings(data_dir=tmp_path, engine="keras", precision=precision)
    monkeypatch.setattr(tasks, "settings", asked)
    monkeypatch.setattr(Classifier, "warm_up", lambda _self: None)
    with capture_logs() as logs:
        classifier = tasks.Runtime().classifier(Registry().find("chest_ct_covid").identifier)
    assert classifier.engine == "keras"
    loud = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["event"] for entry in loud] == ["computed_in_float32"] * (precision == "mixed")
    assert all("does not allow mixed precision" in entry["because"] for entry in loud)
