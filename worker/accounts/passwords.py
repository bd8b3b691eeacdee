"""Passwords: argon2id (RFC 9106, its second recommended option: 64 MiB, 3 passes, 4 lanes), and what they must be."""

import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.errors import AccountError

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 256
GENERATED_BYTES = 15
AT_ONCE = 2
"""Hashes worked out at the same time: each takes 64 MiB, and whoever asks for many must not take the machine."""

_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(AT_ONCE)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password in the PHC string format."""
    with _turns:
        return _hasher.hash(_normal(password))


_NOBODY = _hasher.hash(secrets.token_urlsafe(GENERATED_BYTES))
"""The hash that stands in for an account that is not there: no password fits it, and it takes as long to say so."""


def verify(password_hash: str | None, password: str) -> bool:
    """Say whether a password is the one of a hash.

    An unknown user (None) and one without a password take the same work as a wrong password: how long the answer takes
    tells nothing.
    """
    known = password_hash or _NOBODY
    with _turns:
        try:
            _hasher.verify(known, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
    return known is not _NOBODY


def is_dated(password_hash: str) -> bool:
    """Say whether a hash was made with other parameters than those of today."""
    return _hasher.check_needs_rehash(password_hash)


def generate() -> str:
    """Make a password of 120 random bits."""
    return secrets.token_urlsafe(GENERATED_BYTES)


def checked(password: str, *, name: str) -> str:
    """Return a password that may be used: long, and not the name. No rule about digits or signs (NIST SP 800-63B).

    Raises
    ------
    AccountError
        Saying what it lacks; the password is not quoted.
    """
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise AccountError(
            f"a password has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters; this one {len(password)}"
        )
    if name and name.casefold() in password.casefold() and len(password) < len(name) + LEAST_CHARACTERS:
        raise AccountError("the password is little more than the name; choose another, or let --generate make one")
    if len(set(password)) < 4:
        raise AccountError("the password repeats one or two characters; choose another, or let --generate make one")
    return password


def _normal(password: str) -> str:
    """Write what looks the same the same, however a keyboard composes it."""
    return unicodedata.normalize("NFKC", password[: 4 * MOST_CHARACTERS])
