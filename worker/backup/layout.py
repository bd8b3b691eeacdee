"""What a backup looks like on its disk.

    manifest.json                     the newest run: what it holds, and the digest of its listing
    objects/<day>/<spool name>.dcm    stored bytes, arrivals among them; shared by all runs, never changed
    reports/<study>/<report>.dcm      reports; shared by all runs, never changed
    runs/<run>/SHA256SUMS             the digest of every file of the run, as `sha256sum -c` reads it
    runs/<run>/tables/<table>.jsonl.gz    the rows
    runs/<run>/carried/…              other files of the data directory, as they were

A run adds files, then puts its manifest in the place of the one before, in one step; only then is removed what no
longer belongs to it. So a run that is cut short leaves the backup before it whole.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from worker.errors import BackupError

FORMAT = 1
MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
"""Holds the name of a run that has begun and not ended: files that no listing names are then its own."""
LOCK = ".lock"
RESTORING = "restoring"
"""Lies in a data directory whose restore has begun and not ended, and names the backup by its digest."""
OBJECTS, REPORTS, RUNS = "objects", "reports", "runs"
TABLES, CARRIED, LISTING = "tables", "carried", "SHA256SUMS"

_SUM = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Manifest:
    """What a run holds.

    Attributes
    ----------
    schema
        Revision of the database schema that the rows were read from.
    tables
        How many rows each table has.
    audit
        The last event of the audit chain: `events`, `last_id`, `sha256`.
    models
        Model packages of the site's own, `name@version` to the SHA-256 of the weights: they are not in the backup.
    removed
        Spool names whose bytes retention removed while the files were copied, and when.
    problems
        What was wrong in the data directory already: files that are gone or are not what their row says.
    """

    run: str
    release: str
    database: str
    schema: str
    began_at: str
    finished_at: str
    listing_sha256: str
    files: int
    bytes: int
    registered: int
    arrivals: int
    reports: int
    tables: dict[str, int]
    audit: dict[str, Any]
    models: dict[str, str] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    format: int = FORMAT

    @property
    def run_dir(self) -> str:
        """Where the files of this run alone are, relative to the backup."""
        return f"{RUNS}/{self.run}"

    def text(self) -> str:
        """Return the manifest as it is written, with the digest of itself."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form, with the digest of itself."""
        return asdict(self) | {"sha256": self.sha256}

    @property
    def sha256(self) -> str:
        """The digest that the manifest carries of itself."""
        return _digest(asdict(self))

    @classmethod
    def read(cls, source: Path) -> Self:
        """Read and check the manifest of a backup.

        Raises
        ------
        BackupError
            When there is none, or it is damaged, or a newer release has written it.
        """
        path = source / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            said = content.pop("sha256")
            newer = content["format"] > FORMAT
            manifest = cls(**content) if not newer else None
        except FileNotFoundError:
            raise BackupError(f"{source}: this is no backup, it has no {MANIFEST}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(f"{path}: it is damaged ({type(error).__name__}): use another backup") from None
        if manifest is None:
            raise BackupError(f"{path}: a newer release wrote it (format {content['format']}): use that release")
        if said != manifest.sha256:
            raise BackupError(f"{path}: it is not what was written (SHA-256 differs): use another backup")
        return manifest


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def listing_text(digests: Mapping[str, str]) -> str:
    """Write digests as `sha256sum` does."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(digests.items()))


def read_listing(source: Path, manifest: Manifest) -> dict[str, str]:
    """Return the digest of every file of a run, by its path relative to the backup.

    Raises
    ------
    BackupError
        When the listing is gone, damaged, or names a file outside the backup.
    """
    path = source / manifest.run_dir / LISTING
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackupError(f"{path}: it cannot be read ({error.strerror}): use another backup") from None
    if hashlib.sha256(content).hexdigest() != manifest.listing_sha256:
        raise BackupError(f"{path}: it is not what was written (SHA-256 differs): use another backup")
    digests: dict[str, str] = {}
    for line in content.decode().splitlines():
        found = _SUM.fullmatch(line)
        if found is None or not _is_inside(found[2]):
            raise BackupError(f"{path}: {line[:100]!r} names no file of a backup")
        digests[found[2]] = found[1]
    return digests


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] in {OBJECTS, REPORTS, RUNS} and ".." not in parts


def object_name(spool_name: str) -> str:
    """Return where an object of the spool is kept in a backup, registered or not."""
    return f"{OBJECTS}/{spool_name[:8]}/{spool_name}.dcm"
