"""A signal may come at any moment of a wait, and the wait ends."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from worker.supervision.told import Told


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.close()


def test_it_is_said_at_any_line_of_a_wait_and_the_wait_ends(told: Told) -> None:
    lines: list[int] = []

    def interrupt(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code is Told.wait.__code__ and event == "line":
            lines.append(frame.f_lineno)
            told.set()
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        assert told.wait(3600)
    finally:
        sys.settrace(before)
    assert lines
    assert told.is_set()


def test_a_signal_ends_a_wait(told: Told) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: told.set())
    alarm = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert told.wait(3600)
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGALRM, alarm)


def test_a_wait_has_an_end(told: Told) -> None:
    assert not told.wait(0.01)
    told.set()
    told.set()
    assert told.wait(3600)


def test_a_wait_ends_for_others_too_and_says_that_nothing_was_said(told: Told) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        assert not told.wait(3600, here)
