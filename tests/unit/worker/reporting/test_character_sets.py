import pytest

from worker.reporting.character_sets import choose, normalised


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([], ()),
        ([""], ()),
        (["ISO_IR 6"], ()),
        (["ISO_IR 100"], ("ISO_IR 100",)),
        (["ISO 2022 IR 100"], ("ISO_IR 100",)),
        (["", "ISO 2022 IR 87"], ("ISO 2022 IR 6", "ISO 2022 IR 87")),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], ("ISO 2022 IR 13", "ISO 2022 IR 87")),
    ],
)
def test_terms_are_written_in_the_form_a_report_may_carry(terms: list[str], expected: tuple[str, ...]) -> None:
    assert normalised(terms) == expected


@pytest.mark.parametrize(
    ("terms", "text", "name"),
    [
        (["ISO_IR 100"], "Thorax für", "Äneas^Rüdiger".encode("latin-1")),
        (["", "ISO 2022 IR 149"], "chest", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7="),
        (["GB18030"], "胸部", "Wang=王^小东=".encode("gb18030")),
        (["ISO_IR 192"], "胸部", "Wang=王^小东=".encode()),
        (["ISO_IR 144"], "Грудь", "Щука".encode("iso8859_5")),
    ],
)
def test_the_character_set_of_the_source_is_kept_where_it_carries_the_text(
    terms: list[str], text: str, name: bytes
) -> None:
    assert choose(terms, [text], [name]) == normalised(terms)


@pytest.mark.parametrize(
    ("terms", "text", "name"),
    [
        (["ISO_IR 100"], "胸部", b""),  # cannot be written in it
        ([], "Thorax für", b""),  # declared as ASCII
        ([], "", "Müller".encode("latin-1")),
        (["NOT_A_SET"], "für", b""),
        (["GB18030", "ISO 2022 IR 87"], "胸部", b""),  # no code extensions
        (["", "ISO 2022 IR 87"], "", b"\xff\xfe"),  # not what it is declared to be
        (["ISO_IR 192"], "x", b"\xff\xfe"),
    ],
)
def test_what_the_source_cannot_carry_becomes_utf_8(terms: list[str], text: str, name: bytes) -> None:
    assert choose(terms, [text], [name]) == ("ISO_IR 192",)


def test_plain_text_needs_no_character_set() -> None:
    assert choose(["NOT_A_SET"], ["CHEST"], [b"Doe^Jane"]) == ()
    assert choose(["ISO_IR 100"], ["CHEST"], [b"Doe^Jane"]) == ("ISO_IR 100",)
