"""Which software made a report, in the forms that DICOM asks for."""

from functools import cache
from importlib.metadata import version


@cache
def software_version() -> str:
    """Return the version of this software."""
    return version("firstread")


def implementation_version_name() -> str:
    """Return the Implementation Version Name, at most 16 characters (PS3.7 D.3.3.2)."""
    return f"FIRSTREAD_{software_version()}"[:16]
