"""Logs: one line per event, whoever speaks, and no patient in it."""

import json
import re
import subprocess
import sys

import pytest

FORGED = """
import logging, sys
from worker.logs import configure_logs, get_logger
configure_logs("test", sys.argv[1])
words = "no\\n2026-11-25T13:00:00Z [info] object_stored \\x1b[2J\\r\\x9b2J\\u202e"
get_logger("here").warning("an_event", said=words)
logging.getLogger("somebody").warning(words)
try:
    raise ValueError(words)
except ValueError:
    get_logger("here").exception("an_error")
"""

PROGRAM = """
import logging, sys, warnings
from worker.logs import configure_logs, get_logger
configure_logs("test", sys.argv[1])
get_logger("here").info("an_event", patient_name="DOE^JANE", number=1)
warnings.warn("a library's remark about DOE^JANE\\nin two lines")
logging.getLogger("pydicom").warning("Invalid value for VR PN: DOE^JANE")
logging.getLogger("somebody").warning("words of a library")
"""


def lines(log_format: str, program: str = PROGRAM) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, log_format], capture_output=True, text=True, check=True
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


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_peers_words_look_like_a_line_of_ours(log_format: str) -> None:
    shown = [re.sub(r"\x1b\[\d*m", "", line) for line in lines(log_format, FORGED)]  # its own colours
    if log_format == "console":
        ours = [line for line in shown if not line.startswith(" ")]
        assert len(ours) == 3, "what is not indented is an event of ours"
    else:
        assert [json.loads(line)["event"].partition("\\")[0] for line in shown] == ["an_event", "no", "an_error"]
    assert all(line.isprintable() for line in shown)
