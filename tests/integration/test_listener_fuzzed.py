"""Some hundred spoiled conversations of every kind; `make fuzz-network` has tens of thousands."""

from pathlib import Path

from tests.fuzz_network.campaign import Campaign
from tests.fuzz_network.mutations import KINDS, make
from tests.support.listener_process import ListenerProcess

CASES = 25 * len(KINDS)


def test_a_case_is_the_same_again() -> None:
    for number in range(len(KINDS)):
        assert make(1, number) == make(1, number)
    assert make(1, 0) != make(2, 0)


def test_spoiled_conversations_harm_nobody(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path / "data") as listener:
        result = Campaign(listener, seed=20261125, served_within=15.0).run(0, CASES)
        assert listener.stop() == 0
    assert result.broken == []
    assert result.cases == CASES
    assert len(result.ended) == len(KINDS)
    assert result.good > 3
    assert sum(ended["aborted"] for ended in result.ended.values()) > CASES / 10
