"""Which Specific Character Set a report takes: the source's where it carries the text unharmed, else UTF-8."""

import warnings
from collections.abc import Iterable

from pydicom.charset import ESC, convert_encodings, decode_bytes, encode_string
from pydicom.valuerep import PersonName

UTF_8 = "ISO_IR 192"

_ISO_IR = (13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166)
_SINGLE = {f"ISO_IR {number}" for number in _ISO_IR} | {UTF_8, "GB18030", "GBK"}
_EXTENSIONS = {f"ISO 2022 IR {number}" for number in (6, *_ISO_IR, 58, 87, 149, 159)}


def normalised(terms: Iterable[str]) -> tuple[str, ...]:
    """Return defined terms in the form a report may carry (PS3.3 C.12.1.1.2), empty for the default repertoire.

    An empty first value of several means ISO 2022 IR 6 and is written so; a code extension that stands alone (often
    seen, of no use) becomes the character set without code extensions.
    """
    found = tuple(term.strip() for term in terms)
    if len(found) > 1:
        return tuple(term or "ISO 2022 IR 6" for term in found)
    single = found[0] if found else ""
    without_extension = single.replace("ISO 2022 IR", "ISO_IR")
    if single in _EXTENSIONS and without_extension in _SINGLE:
        return (without_extension,)
    return () if single in ("", "ISO_IR 6", "ISO 2022 IR 6") else (single,)


def choose(terms: Iterable[str], texts: Iterable[str], names: Iterable[bytes]) -> tuple[str, ...]:
    """Return the Specific Character Set to write a report in.

    Parameters
    ----------
    terms
        Defined terms of the source, as they are.
    texts
        What is to be written of the source, decoded.
    names
        Person names of the source, encoded as they are there: they are written byte for byte where they can be.

    Returns
    -------
    tuple of str
        The source's own terms where every one is defined, used as the Standard allows, and carries the values unharmed;
        ISO_IR 192 (UTF-8) otherwise. Values that are all ASCII never need UTF-8: terms that cannot be kept are dropped.
    """
    own = normalised(terms)
    texts, names = tuple(texts), tuple(names)
    if _is_defined(own) and all(_returns(text, own) for text in texts) and all(_decodes(name, own) for name in names):
        return own
    plain = all(text.isascii() for text in texts) and all(_decodes(name, ()) for name in names)
    return () if plain else (UTF_8,)


def encodings(terms: Iterable[str]) -> list[str]:
    """Return the Python encodings of defined terms."""
    return list(convert_encodings(list(terms)))


def _is_defined(terms: tuple[str, ...]) -> bool:
    return terms[0] in _SINGLE if len(terms) == 1 else all(term in _EXTENSIONS for term in terms)


def _returns(text: str, terms: tuple[str, ...]) -> bool:
    """Say whether text comes back as it was after being written in these character sets, without a complaint."""
    if not terms:
        return text.isascii()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = encodings(terms)
            encoded = encode_string(text, found)
            return _begins_as_declared(encoded, terms) and decode_bytes(encoded, found, set()) == text
    except (Warning, UnicodeError, LookupError, ValueError):
        return False


def _decodes(name: bytes, terms: tuple[str, ...]) -> bool:
    """Say whether a person name can be read in these character sets without a complaint."""
    if not terms:
        return name.isascii() and ESC not in name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            decoded = str(PersonName(name, encodings(terms)).decode())
            return _begins_as_declared(name, terms) and "\N{REPLACEMENT CHARACTER}" not in decoded
    except (Warning, UnicodeError, LookupError, ValueError):
        return False


def _begins_as_declared(encoded: bytes, terms: tuple[str, ...]) -> bool:
    """Say whether what precedes any escape sequence is ASCII where that is declared (pydicom takes Latin-1 too)."""
    return terms[0] != "ISO 2022 IR 6" or encoded.split(ESC)[0].isascii()
