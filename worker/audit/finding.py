"""What an auditor is told."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was: which row of which table, and what is wrong with it."""

    table: str
    row: int | str
    what: str

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.what}"
