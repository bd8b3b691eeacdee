"""Who asks for a page, as the pages know them."""

from dataclasses import dataclass, field

from worker.accounts.permissions import MATRIX, Permission, Role


@dataclass(frozen=True)
class Viewer:
    """Somebody, or a machine, whose request is answered.

    Attributes
    ----------
    name
        For the page and for the audit trail.
    role
        None for those who are let in without: everybody on this machine, before there is an account.
    key
        Tells two logins of one person apart; not the secret.
    form_secret
        What a form of theirs must bring back; empty for who has no session.
    """

    name: str
    role: Role | None
    permissions: frozenset[Permission]
    key: str
    form_secret: str = field(default="", repr=False)

    def may(self, permission: Permission) -> bool:
        """Say whether they may see something."""
        return permission in self.permissions

    @classmethod
    def of(cls, name: str, role: Role, key: str, form_secret: str = "") -> "Viewer":
        """Make a viewer who may see what the role may."""
        return cls(name, role, MATRIX[role], key, form_secret)


EVERYBODY = Viewer("everybody", None, frozenset(Permission), "everybody")
"""Where no login is set up at all: an application made without `Access`."""

ON_THIS_MACHINE = Viewer(
    "anybody on this machine", None, frozenset({Permission.STUDIES, Permission.PATIENTS}), "anybody on this machine"
)
"""Who asks the JSON interface on loopback before there is an account, a token or a provider."""
