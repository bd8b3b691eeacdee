import pytest

from worker.reporting.storage_status import Answer, advice, answer, meaning


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x0000, Answer.STORED),
        (0xB000, Answer.STORED_WITH_WARNING),
        (0xB007, Answer.STORED_WITH_WARNING),
        (0x0107, Answer.STORED_WITH_WARNING),
        (0x0111, Answer.STORED_WITH_WARNING),
        (0xA700, Answer.LATER),
        (0xA7FF, Answer.LATER),
        (0xA900, Answer.REFUSED),
        (0xC000, Answer.REFUSED),
        (0x0110, Answer.REFUSED),
        (0x0122, Answer.REFUSED),
        (0x0124, Answer.REFUSED),
        (0x1234, Answer.REFUSED),
    ],
)
def test_what_a_status_comes_to(status: int, expected: Answer) -> None:
    assert answer(status) is expected
    assert meaning(status).startswith(f"0x{status:04X} (")
    assert advice(status)


def test_a_refusal_says_what_to_do() -> None:
    assert "FIRSTREAD_REPORT_IOD" in advice(0x0122)
    assert "AE title" in advice(0x0124)
