from hypothesis import given
from hypothesis import strategies as st

from worker.uids import derived_uid, is_uid, is_valid_uid


@given(st.lists(st.text() | st.integers()))
def test_a_derived_uid_is_valid_and_short(parts: list[str | int]) -> None:
    uid = derived_uid(*parts)
    assert is_valid_uid(uid)
    assert uid.startswith("2.25.")
    assert len(uid) <= 44
    assert uid == derived_uid(*parts)


def test_parts_do_not_run_together() -> None:
    assert derived_uid("ab", "c") != derived_uid("a", "bc")
    assert derived_uid("1") != derived_uid(1)


def test_what_a_source_was_given_may_break_the_letter() -> None:
    for value in ("1.02.3", "1..2", "7"):
        assert is_uid(value)
        assert not is_valid_uid(value)
    for value in ("", "1.2.x", "../../x", "1" * 65, "1.2\n"):
        assert not is_uid(value)
    assert is_valid_uid("1.2.840.10008.1.1")
