"""A result that grows row by row: what is measured for long is printed and kept as it comes."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.machine import machine, versions


def write_rows(benchmark: str, rows: Iterable[Mapping[str, Any]], out: Path | None, **about: Any) -> None:
    """Print each row as a line of JSON; after each, write all so far to `out`, with the machine and the versions."""
    result: dict[str, Any] = {
        "benchmark": benchmark,
        "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "machine": machine(Path(tempfile.gettempdir())),
        "versions": versions(),
        **about,
        "rows": [],
    }
    for row in rows:
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
        if out:
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
