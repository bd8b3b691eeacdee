"""A measurement that takes long keeps each row as it comes."""

import json
from pathlib import Path

import pytest

from tests.bench.rows import write_rows


def test_what_was_measured_before_one_failed_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rows():
        yield {"name": "first"}
        raise RuntimeError("the second")

    out = tmp_path / "result.json"
    with pytest.raises(RuntimeError, match="the second"):
        write_rows("gpu", rows(), out, device="A card")
    kept = json.loads(out.read_text())
    assert (kept["benchmark"], kept["device"], kept["rows"]) == ("gpu", "A card", [{"name": "first"}])
    assert kept["machine"]["cores"] >= 1
    assert json.loads(capsys.readouterr().out) == {"name": "first"}
