"""Places that one process counts for several: the rules of one, whoever holds the slow."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from dicom_listener import common_places
from dicom_listener.common_places import AskedPlaces, CommonPlaces, Window, channel
from dicom_listener.places import SLOW_SECONDS, Places


class Peer:
    def __init__(self, number: int, slow_seconds: float = 0.0) -> None:
        self.number = number
        self.address, self.peer = "10.0.0.1", "10.0.0.1:5000"
        self.slow_seconds = slow_seconds
        self.gone = threading.Event()

    def give_way(self) -> None:
        self.gone.set()


class Process:
    """One that asks, as its end of the channel."""

    def __init__(self, common: CommonPlaces) -> None:
        ours, self.theirs = channel()
        self.window: Window = common.open(ours)
        self.lost = threading.Event()
        self.places = AskedPlaces(self.theirs, self.lost.set)

    def die(self) -> None:
        self.places._lines.close()


@pytest.fixture
def common() -> CommonPlaces:
    return CommonPlaces(Places(associations=2, connections=5))


@pytest.fixture
def two(common: CommonPlaces) -> Iterator[tuple[Process, Process]]:
    with ExitStack() as stack:
        first, second = Process(common), Process(common)
        stack.callback(first.die)
        stack.callback(second.die)
        yield first, second


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def associated(process: Process, *peers: Peer) -> bool:
    return all(process.places.enter(peer) and process.places.associate(peer) for peer in peers)


def test_the_limit_is_that_of_all_together(two: tuple[Process, Process]) -> None:
    first, second = two
    one, other, late = Peer(1), Peer(1001), Peer(1002)
    assert associated(first, one)
    assert associated(second, other)
    assert second.places.enter(late)
    assert not second.places.associate(late)
    first.places.dissociate(one)
    assert second.places.associate(late), "what one process gives back, another gets"


def test_the_slowest_gives_way_whoever_holds_it(two: tuple[Process, Process]) -> None:
    first, second = two
    slow, slower = Peer(1, SLOW_SECONDS + 1), Peer(2, SLOW_SECONDS + 2)
    assert associated(first, slow, slower)
    assert associated(second, Peer(1001))
    assert slower.gone.wait(20)
    assert not slow.gone.is_set()
    slow.slow_seconds = 0.0
    late = Peer(1002)
    assert second.places.enter(late)
    assert not second.places.associate(late), "how slow it was a moment ago does not count"


def test_the_slow_of_the_same_process_give_way_too(two: tuple[Process, Process]) -> None:
    first, _ = two
    slow = Peer(1, SLOW_SECONDS + 1)
    assert associated(first, slow, Peer(2), Peer(3))
    assert slow.gone.wait(20)


def test_the_places_of_a_process_that_died_are_free(two: tuple[Process, Process]) -> None:
    first, second = two
    assert associated(first, Peer(1), Peer(2))
    first.die()
    late = Peer(1001)
    assert second.places.enter(late)
    wait_for(lambda: second.places.associate(late))
    assert first.lost.wait(20)
    assert not first.places.enter(Peer(3)), "who counts nothing takes nobody"


def test_what_left_or_was_refused_is_forgotten(two: tuple[Process, Process]) -> None:
    first, _ = two
    peers = [Peer(number) for number in range(20)]
    taken = [peer for peer in peers if first.places.enter(peer)]
    assert len(taken) < len(peers), "those that were told to go are still there"
    for peer in peers:
        first.places.leave(peer)
        first.places.leave(peer)
    assert first.places._occupants == first.places._answers == {}
    wait_for(lambda: first.window._remotes == {})
    assert associated(first, Peer(100), Peer(101))


def test_a_process_that_says_nothing_has_nobody_slow_and_holds_nobody_up(common: CommonPlaces) -> None:
    ours, theirs = channel()
    common.open(ours)
    with theirs:
        asking = Process(common)
        assert associated(asking, Peer(1), Peer(2))
        late = Peer(3)
        assert asking.places.enter(late)
        assert not asking.places.associate(late)
        asking.die()


def test_it_is_known_when_a_process_accepts(two: tuple[Process, Process]) -> None:
    first, second = two
    first.places.ready()
    wait_for(lambda: first.window.accepts)
    assert not second.window.accepts
    first.die()
    wait_for(lambda: not first.window.accepts)


def test_a_process_that_does_not_read_is_given_up(common: CommonPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common_places, "SEND_SECONDS", 0.2)
    ours, theirs = channel()
    window = common.open(ours)
    with theirs:
        for _ in range(100_000):
            window.ask_paces()
            if window._told.is_set():
                break
        wait_for(lambda: window not in common._windows)  # its end of the channel is closed, as if it had died


class Late(Peer):
    """Says how slow it was when it was asked, once it is let."""

    may_answer: threading.Event | None = None

    @property
    def slow_seconds(self) -> float:
        seconds = self._slow_seconds
        if self.may_answer is not None:
            self.may_answer.wait(20)
        return seconds

    @slow_seconds.setter
    def slow_seconds(self, seconds: float) -> None:
        self._slow_seconds = seconds


def test_an_answer_about_pace_that_comes_too_late_counts_for_no_newcomer(two: tuple[Process, Process]) -> None:
    first, second = two
    sender, newcomer, next_one = Late(1, SLOW_SECONDS + 1), Peer(1001), Peer(1002)
    sender.may_answer = threading.Event()
    assert associated(first, sender, Peer(2))
    assert second.places.enter(newcomer)
    assert not second.places.associate(newcomer), "nothing is known of the slow in time"
    sender.slow_seconds = 0.0
    sender.may_answer.set()
    assert second.places.enter(next_one)
    assert not second.places.associate(next_one), "it moves at full speed by now"
    assert not sender.gone.is_set()


def test_an_answer_to_one_inquiry_is_none_to_the_next(common: CommonPlaces) -> None:
    ours, theirs = channel()
    window = common.open(ours)
    with theirs, theirs.makefile("rwb") as lines:

        def answer(inquiry: int) -> None:
            lines.write(json.dumps({"paces": {"1": SLOW_SECONDS + 1}, "inquiry": inquiry}).encode() + b"\n")
            lines.write(json.dumps({"ask": "enter", "number": 2, "address": "a", "peer": "a:1"}).encode() + b"\n")
            lines.flush()
            while "yes" not in json.loads(lines.readline()):
                pass

        lines.write(json.dumps({"ask": "enter", "number": 1, "address": "a", "peer": "a:1"}).encode() + b"\n")
        lines.flush()
        lines.readline()
        window.ask_paces()
        first = json.loads(lines.readline())["inquiry"]
        window.forget_paces()
        window.ask_paces()
        second = json.loads(lines.readline())["inquiry"]
        answer(first)
        assert not window._told.is_set()
        assert window._remotes[1].slow_seconds == 0.0
        answer(second)
        assert window._told.is_set()
        assert window._remotes[1].slow_seconds > SLOW_SECONDS
        window.forget_paces()
        answer(second)
        assert window._remotes[1].slow_seconds == 0.0, "nor one that comes after all is forgotten"


def test_where_no_thread_can_be_had_nothing_is_kept_open(common: CommonPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_window: Window) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Window, "start", refuse)
    ours, theirs = channel()
    with theirs:
        with pytest.raises(BlockingIOError, match="new thread"):
            common.open(ours)
        assert common._windows == []
        assert theirs.recv(1) == b""
