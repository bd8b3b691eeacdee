"""Who may see what: the whole matrix, on one page."""

from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What somebody is here."""

    RADIOLOGIST = "radiologist"
    OPS = "ops"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Permission(StrEnum):
    """Something that not everybody may see."""

    STUDIES = "studies"
    """Studies by UID: where each stands, findings, reports and deliveries."""
    PATIENTS = "patients"
    """Whose they are: name, ID, accession number, and descriptions, which are free text; searching for any of it."""
    IMAGES = "images"
    """The pictures: a face or a name may be in the pixels."""
    AUDIT = "audit"
    """The audit trail."""


MATRIX = MappingProxyType(
    {
        Role.RADIOLOGIST: frozenset({Permission.STUDIES, Permission.PATIENTS, Permission.IMAGES}),
        Role.OPS: frozenset({Permission.STUDIES}),
        Role.AUDITOR: frozenset({Permission.AUDIT}),
        Role.ADMIN: frozenset(Permission),
    }
)
"""Role → what it may see. Accounts are managed with `firstread users`, by whoever may run it; no page does."""
