"""How the worklist is reached and who may come in: what the door is made with."""

from dataclasses import dataclass, field

from fastapi import Request
from sqlmodel import Session

from worker.accounts import users
from worker.accounts.logins import Logins
from worker.accounts.users import Record
from worker.config import is_loopback
from worker.worklist.login.provider import Provider

FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
NOBODY_YET = (
    "Nobody can log in yet. On the machine where firstread runs, `firstread users add NAME --role radiologist` makes "
    "an account, `firstread tokens add NAME` a token for a machine; FIRSTREAD_API_TOKEN and FIRSTREAD_OIDC_ISSUER are "
    "the other ways."
)


@dataclass(frozen=True)
class Access:
    """Who may come in, as plain values.

    Attributes
    ----------
    logins
        The ways in for people.
    record
        Takes audit events.
    loopback
        Whether only this machine reaches us: bound to loopback, and no proxy announced.
    api_token_sha256
        Digest of `FIRSTREAD_API_TOKEN`; empty where it is not set.
    provider
        The OpenID Connect provider; None where there is none.
    """

    logins: Logins
    record: Record
    loopback: bool
    api_token_sha256: str = field(default="", repr=False)
    provider: Provider | None = None

    def anybody(self, session: Session) -> bool:
        """Say whether there is any way in yet for those who did not start us."""
        return bool(self.api_token_sha256) or self.provider is not None or users.anybody(session)

    def from_this_machine(self, request: Request) -> bool:
        """Say whether a request was made on this machine, by name and by address, and came through no proxy.

        The name guards against a page elsewhere that has its own name lead to 127.0.0.1 (DNS rebinding).
        """
        return (
            self.loopback
            and is_loopback(address_of(request))
            and is_loopback(request.url.hostname or "")
            and not any(name in request.headers for name in FORWARDING)
        )


def address_of(request: Request) -> str:
    """Return the address that a request came from, as a trusted proxy says where there is one."""
    return request.client.host if request.client else "unknown"
