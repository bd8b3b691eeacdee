"""Who may call: judged by address as a connection comes, by AE title and certificate as an association is asked for."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from worker.config import Caller

Unwelcome = Literal["calling_ae", "address", "certificate"]
"""What about a caller does not fit; a label of the metric."""

FIXES: dict[Unwelcome, str] = {
    "calling_ae": "add the calling AE title to FIRSTREAD_CALLING_AES if it may send here",
    "address": "add AE@ADDRESS to FIRSTREAD_CALLING_AES if it may send here from this address",
    "certificate": "let the sender show another certificate, or mend `certificate` in its [[caller]] table",
}


class Admission:
    """The list of those who may call.

    Parameters
    ----------
    callers
        Who may; empty: anybody.
    """

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._callers = tuple(callers)

    def admits_address(self, address: str) -> bool:
        """Say whether anybody at all may call from this address."""
        return not self._callers or any(_fits_address(caller, address) for caller in self._callers)

    def objection(self, ae_title: str, address: str, certificate_names: tuple[str, ...]) -> Unwelcome | None:
        """Say what keeps a caller from being served; None: nothing.

        Parameters
        ----------
        ae_title
            The calling AE title.
        address
            The address of the peer.
        certificate_names
            The subject and the alternative names of the certificate that it showed; empty: it showed none.
        """
        if not self._callers:
            return None
        titled = [caller for caller in self._callers if caller.ae_title in {None, ae_title}]
        if not titled:
            return "calling_ae"
        placed = [caller for caller in titled if _fits_address(caller, address)]
        if not placed:
            return "address"
        known = any(caller.certificate is None or caller.matches_certificate(certificate_names) for caller in placed)
        return None if known else "certificate"


def _fits_address(caller: Caller, address: str) -> bool:
    return not caller.addresses or any(_plain(address) in network for network in caller.addresses)


def _plain(address: str) -> IPv4Address | IPv6Address:
    """Return an address; one of IPv4 that came through a socket of IPv6 as what it is."""
    parsed = ip_address(address)
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed
