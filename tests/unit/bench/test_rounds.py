"""Rounds: everybody once in each, nobody always first, the first round not counted."""

from tests.bench.rounds import Effort, interleaved, turned


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
