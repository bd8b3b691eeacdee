"""The child's side: whatever goes wrong with an object becomes an answer, and no value of it becomes a word."""

import os

import pytest

from worker.errors import PixelError
from worker.guarded.serving import answer


def answer_when(error: BaseException) -> dict[str, object]:
    def handle(*_: object) -> dict[str, object]:
        raise error

    file = os.open(os.devnull, os.O_RDONLY)
    said = answer({}, [file], handle, 600)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    return said


def test_what_nobody_thought_of_is_the_objects_failure_and_quotes_nothing() -> None:
    said = answer_when(KeyError("Doe^Jane"))
    assert said["failure"] == "surprise"
    assert str(said["reason"]).startswith("KeyError at test_serving.py:")
    assert "Doe" not in str(said)


def test_an_object_that_is_refused_or_too_large() -> None:
    assert answer_when(PixelError("no rows")) == {"failure": "refused", "reason": "no rows"}
    assert answer_when(MemoryError()) == {"failure": "memory", "reason": ""}
