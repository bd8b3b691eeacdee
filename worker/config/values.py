"""What single settings are made of, and how each is checked: peers, routes, AE titles, URLs."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydicom.datadict import keyword_dict, tag_for_keyword

BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps")
DATABASE_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The PEM files of TLS.

    Attributes
    ----------
    certificate, key
        Our certificate with its chain, and its private key; None: we show none.
    ca
        The certificates by which others are known; None: nobody is.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None


class Peer(BaseModel):
    """A DICOM application entity somewhere else, written `AE@HOST:PORT`, or `AE@HOST:PORT/tls`."""

    model_config = ConfigDict(frozen=True)
    ae_title: Annotated[str, Field(min_length=1, max_length=16)]
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AE@HOST:PORT[/tls]`; the AE title may hold an `@`, an IPv6 host stands in brackets."""
        plain = text.strip().removesuffix("/tls")
        ae_title, at, address = plain.rpartition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and ae_title and host and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(f"{text!r} is not AE@HOST:PORT or AE@HOST:PORT/tls, for example PACS@192.0.2.10:104")
        if len(ae_title) > 16:
            raise ValueError(f"{text!r}: an AE title has at most 16 characters")
        return cls(ae_title=ae_title, host=host.strip("[]"), port=int(port), tls=plain != text.strip())

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}{'/tls' if self.tls else ''}"

    def secured_as(self, others: Iterable[Self]) -> Self:
        """Return the one of `others` that is this peer over TLS, if there is one; else this.

        What is owed to a destination from before it was given TLS goes there over TLS too, and never the other way.
        """
        secure = self.model_copy(update={"tls": True})
        return next((other for other in others if other == secure), self)


class Route(BaseModel):
    """One `[[route]]` table: which objects go to which model.

    `when` maps a DICOM keyword, or several joined by `|` (any of them), to patterns of which one must match the value;
    patterns are case-insensitive with `*` and `?`, and the empty pattern matches an absent or empty value. The
    direction cosines of `ImageOrientationPatient` are matched as their plane: AXIAL, CORONAL, SAGITTAL or OBLIQUE.
    A route names a `model`, or says why the object is `not_eligible`. The first match wins, but a route marked `also`
    fires and lets the search go on. `remark` is shown with the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    when: dict[str, tuple[str, ...]]
    model: str | None = None
    not_eligible: str | None = None
    also: bool = False
    remark: str | None = None

    @field_validator("when", mode="before")
    @classmethod
    def _one_pattern_is_a_list_of_one(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: (patterns,) if isinstance(patterns, str) else patterns for key, patterns in value.items()}

    @field_validator("when", mode="after")
    @classmethod
    def _names_attributes(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for keyword in (word for keywords in value for word in keywords.split("|")):
            if not keyword or tag_for_keyword(keyword) is None:
                near = difflib.get_close_matches(keyword, keyword_dict, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{keyword!r} is no DICOM keyword (PS3.6 chapter 6){meant}")
        return value

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if (self.model is None) == (self.not_eligible is None):
            raise ValueError(f"route {self.name!r}: say either model or not_eligible")
        return self


def checked_ae_title(value: str) -> str:
    """Return an AE title that is one."""
    good = value.isascii() and value.isprintable() and "\\" not in value and value == value.strip()
    if not good or not 1 <= len(value) <= 16:
        raise ValueError(
            "an AE title is 1 to 16 printable ASCII characters without backslash or outer spaces (PS3.5 6.2)"
        )
    return value


def check_scheme(url: str, schemes: tuple[str, ...]) -> None:
    """Refuse what is no URL of these schemes; nothing of it is quoted but the scheme: the rest may be secret."""
    scheme, colon, _ = url.partition("://")
    if not colon or scheme not in schemes:
        named = f"{scheme}:// is not supported" if colon and re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme) else ""
        raise ValueError(f"{named or 'it is no URL'}; allowed: {', '.join(f'{known}://' for known in schemes)}")


DATABASE_PORT = re.compile(r"[^:]+://(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]*)(?::([^/?]*))?")
"""The port of a URL as SQLAlchemy reads it."""


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address or a name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_network(value: str) -> str:
    """Return an address or a network (`192.0.2.0/24`) that is one."""
    try:
        ip_network(value)
    except ValueError:
        raise ValueError(f"{value!r} is no address or network, for example 192.0.2.7 or 192.0.2.0/24") from None
    return value


def split_commas(value: Any) -> Any:
    """Split text at its commas; leave what is no text as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
