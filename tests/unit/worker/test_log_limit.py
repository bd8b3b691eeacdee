"""One peer fills no log; what is withheld is counted."""

import pytest
import structlog

from worker.log_limit import ADDRESSES, LINES, NEVER_WITHHELD, WINDOW_SECONDS, LineLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> LineLimit:
    return LineLimit(clock)


def passes(limit: LineLimit, event: str = "refused", peer: str | None = "10.0.0.1:5000") -> bool:
    try:
        limit(None, "info", {"event": event} if peer is None else {"event": event, "peer": peer})
    except structlog.DropEvent:
        return False
    return True


def test_beyond_the_limit_lines_are_counted_and_the_count_is_told(limit: LineLimit, clock: Clock) -> None:
    assert [passes(limit) for _ in range(LINES + 7)] == [True] * LINES + [False] * 7
    assert limit.withheld() == []
    clock.now += WINDOW_SECONDS + 1
    assert limit.withheld() == [("refused", "10.0.0.1", 7)]
    assert limit.withheld() == []
    assert passes(limit)


def test_a_window_that_ends_by_a_new_line_is_told_too(limit: LineLimit, clock: Clock) -> None:
    for _ in range(LINES + 3):
        passes(limit)
    clock.now += WINDOW_SECONDS + 1
    assert passes(limit)
    assert limit.withheld() == [("refused", "10.0.0.1", 3)]


def test_at_the_end_all_is_told(limit: LineLimit) -> None:
    for _ in range(LINES + 3):
        passes(limit)
    assert limit.withheld(at_the_end=True) == [("refused", "10.0.0.1", 3)]


def test_each_event_and_each_address_has_its_own_and_a_new_port_is_no_new_address(limit: LineLimit) -> None:
    for port in range(LINES):
        assert passes(limit, peer=f"10.0.0.1:{port}")
    assert not passes(limit, peer="10.0.0.1:1")
    assert passes(limit, peer="10.0.0.2:1")
    assert passes(limit, event="accepted")
    assert passes(limit, peer="::1:5000")


@pytest.mark.parametrize("event", [*NEVER_WITHHELD, "anything without a peer"])
def test_what_is_never_withheld(limit: LineLimit, event: str) -> None:
    peer = "10.0.0.1:1" if event in NEVER_WITHHELD else None
    assert all(passes(limit, event, peer) for _ in range(3 * LINES))


def test_a_thousand_addresses_cost_no_more_than_the_table(limit: LineLimit) -> None:
    told = [passes(limit, peer=f"10.{n >> 8}.{n & 255}.1:1") for n in range(3 * ADDRESSES)]
    assert sum(told) == ADDRESSES + LINES
    assert len(limit._told) == ADDRESSES + 1


def test_what_is_over_is_forgotten(limit: LineLimit, clock: Clock) -> None:
    passes(limit)
    clock.now += WINDOW_SECONDS + 1
    assert limit.withheld() == []
    assert limit._told == {}
