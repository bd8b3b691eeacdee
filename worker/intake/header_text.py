"""A header as intake knows it: attributes as clean text, bounded in number and length."""

from collections.abc import Mapping, Sequence

from worker.intake.defined_terms import DEFINED

VALUES = 64
"""Values of an attribute that are looked at; text of them all together: `VALUE_CHARACTERS`."""

VALUE_CHARACTERS = 1024

Header = Mapping[str, Sequence[str]]
"""Attributes of an object: keyword → values as clean text."""


def texts(header: Header, keyword: str) -> Sequence[str]:
    """Return the values of an attribute as clean text; none where it is absent."""
    return header.get(keyword, ())


def text(header: Header, keyword: str, limit: int = VALUE_CHARACTERS) -> str:
    """Return an attribute as one clean text, its values joined by backslashes as in the data set; empty when absent."""
    return "\\".join(texts(header, keyword))[:limit]


def code(header: Header, keyword: str) -> str:
    """Return Modality or Body Part Examined as a message may quote it: a defined term, or that it is none."""
    said = next(iter(texts(header, keyword)), "")
    if not said:
        return "not stated"
    return said if said in DEFINED[keyword] else "no defined term"


def clean(words: str) -> str:
    """Drop what is not printable: control characters, NUL, lone surrogates."""
    return "".join(character for character in words if character.isprintable()).strip()
