"""Who may call the listener: by AE title, by address, by the subject of a certificate."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from worker.config.values import checked_ae_title


class Caller(BaseModel):
    """One `[[caller]]` table, or one entry of `CALLING_AES`: who calls like this may call.

    A caller fits when everything that is said here fits: its AE title, one of the addresses, the certificate that it
    showed. A pattern of a certificate (`*` and `?`, in either case) is compared with the subject, as RFC 4514 writes it
    (`CN=ct1,O=Hospital`), and with each alternative name (`DNS:ct1.hospital.example`, `IP:192.0.2.7`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ae_title: str | None = None
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    certificate: Annotated[str, Field(min_length=1)] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AE`, or `AE@ADDRESS`, the address single or with a prefix length (`192.0.2.0/24`, `2001:db8::7`).

        Raises
        ------
        ValueError
            What stands before the `@` is no AE title, or what stands after it no address.
        """
        ae_title, at, address = text.rpartition("@")
        if not at:
            return cls(ae_title=checked_ae_title(text))
        return cls(ae_title=checked_ae_title(ae_title), addresses=(_network(address),))

    @field_validator("addresses", mode="before")
    @classmethod
    def _one_address_is_a_list_of_one(cls, value: Any) -> Any:
        values = (value,) if isinstance(value, str) else value
        return tuple(_network(one) if isinstance(one, str) else one for one in values)

    @field_validator("ae_title", mode="after")
    @classmethod
    def _is_ae_title(cls, value: str | None) -> str | None:
        return None if value is None else checked_ae_title(value)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.ae_title is None and not self.addresses and self.certificate is None:
            raise ValueError("it would let anybody in: say ae_title, addresses or certificate, or leave the table out")
        return self

    def matches_certificate(self, names: tuple[str, ...]) -> bool:
        """Say whether the pattern fits one of the names of a certificate."""
        pattern = ".*".join(".".join(map(re.escape, part.split("?"))) for part in (self.certificate or "").split("*"))
        return any(re.fullmatch(pattern, name, re.IGNORECASE | re.DOTALL) for name in names)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no address ({error}): say for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; an AE title "
            "that itself holds an @ goes into a [[caller]] table"
        ) from None
