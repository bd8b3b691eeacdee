"""Random secrets, and the digests that are kept of them.

What is random and long needs no slow hash: nobody guesses 256 bits, however fast SHA-256 is.
"""

import hashlib
import secrets

RANDOM_BYTES = 32


def new_secret() -> str:
    """Make a secret of 256 random bits, in characters that a URL and a header take."""
    return secrets.token_urlsafe(RANDOM_BYTES)


def digest(secret: str) -> str:
    """Return what is kept of a random secret: its SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
