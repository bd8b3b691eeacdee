"""Logs: one line per event, whoever speaks, and no patient in it."""

import json
import subprocess
import sys

PROGRAM = """
import logging, sys, warnings
from worker.logs import configure_logs, get_logger
configure_logs("test", sys.argv[1])
get_logger("here").info("an_event", patient_name="DOE^JANE", number=1)
warnings.warn("a library's remark about DOE^JANE\\nin two lines")
logging.getLogger("pydicom").warning("Invalid value for VR PN: DOE^JANE")
logging.getLogger("somebody").warning("words of a library")
"""


def lines(log_format: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", PROGRAM, log_format], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_every_event_is_one_line_of_json() -> None:
    said = [json.loads(line) for line in lines("auto")]
    assert [entry["event"] for entry in said] == ["an_event", "UserWarning at <string>:6", "words of a library"]
    assert {entry["service"] for entry in said} == {"test"}
    assert said[0]["withheld"] == ["patient_name"]


def test_every_event_is_one_line_for_people_and_names_nobody() -> None:
    shown = lines("console")
    assert len(shown) == 3
    assert "DOE" not in "".join(shown)
