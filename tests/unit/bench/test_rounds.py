"""Rounds: everybody once in each, nobody always first, the first round not counted."""

import pytest

from tests.bench.rounds import Effort, check_words, chosen, interleaved, measure_cases, turned
from tests.bench.summary import Seen
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


def test_every_case_is_measured_and_every_run_told_of() -> None:
    seen, steps = Seen(), []
    measure_cases(
        {"CR": "ab", "CT": "b"},
        2,
        lambda case, contender: {"figure": float(len(steps))},
        str.upper,
        seen,
        lambda doing, done, total: steps.append((doing, done, total)),
    )
    assert list(seen.rows()) == [("CR", "B"), ("CR", "A"), ("CT", "B")]
    assert [len(values) for values in seen.values.values()] == [2, 2, 2]
    assert [done for _, done, _ in steps] == list(range(9))
    assert {total for _, _, total in steps} == {9}
    assert steps[0][0] == "CR: A"
