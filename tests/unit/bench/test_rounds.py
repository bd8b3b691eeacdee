"""Rounds: everybody once in each, nobody always first, the first round not counted."""

import pytest

from tests.bench.rounds import Effort, check_words, chosen, interleaved, turned
from worker.errors import SettingsError


def test_the_order_turns() -> None:
    assert [turned("abc", number) for number in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert turned([], 3) == []


def test_every_contender_runs_once_a_round_and_the_warm_up_does_not_count() -> None:
    ran: list[str] = []
    kept: list[tuple[str, float]] = []

    def measure(contender: str) -> dict[str, float]:
        ran.append(contender)
        return {"place": float(len(ran))}

    interleaved(
        ["a", "b"],
        3,
        measure,
        lambda contender, figures: kept.append((contender, figures["place"])),
        after_round=lambda: ran.append("|"),
    )
    assert "".join(ran) == "ab|ba|ab|ba|"
    assert [contender for contender, _ in kept] == list("baabba")
    assert min(place for _, place in kept) > 2


def test_quick_is_two_rounds_at_most() -> None:
    assert Effort(rounds=5).counted == 5
    assert Effort(rounds=5, quick=True).counted == 2
    assert Effort(rounds=1, quick=True).counted == 1


def test_words_choose_among_the_names_they_are_in() -> None:
    cases, peers = ["CR, 1 association", "CT, 1 association"], ["Orthanc", "Orthanc, no fsync", "dcmtk"]
    only = ["ct", "orthanc"]
    assert chosen(cases, only) == ["CT, 1 association"]
    assert chosen(peers, only) == ["Orthanc", "Orthanc, no fsync"]
    assert chosen(cases, ["dcmtk"]) == cases
    check_words(only, cases, peers)
    with pytest.raises(SettingsError, match="--only MR: nothing is called so"):
        check_words([*only, "MR"], cases, peers)
