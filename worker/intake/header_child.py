"""The guarded child that reads headers: what goes wrong with what strangers sent goes wrong here.

Started by `worker.intake.headers` as `python -m worker.intake.header_child`. It is handed open files, so it needs no
path and no right to open one (`worker.guarded`).

In: `{"job", "start", "transfer_syntax", "keywords"}` with the descriptor of the file. Out: `{"job", "header",
"has_pixels", "defect"}` as `worker.intake.header_parsing.Parsed`.
"""

import os
from dataclasses import asdict
from typing import Any

from worker.guarded.serving import child_parser, serve
from worker.intake.header_parsing import parse


def handle(job: dict[str, Any], file: int) -> dict[str, Any]:
    """Read one header."""
    with os.fdopen(file, "rb", closefd=False) as source:
        return asdict(parse(source, job["start"], job["transfer_syntax"], job["keywords"]))


if __name__ == "__main__":
    serve(child_parser("reads DICOM headers for intake").parse_args(), handle)
