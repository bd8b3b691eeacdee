"""Is a backup whole? Every file is read and compared with the digest taken when it was written."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.backup.files import Progress, sha256_of
from worker.backup.layout import LISTING, LOCK, MANIFEST, UNFINISHED, Manifest, read_listing


@dataclass
class Verification:
    """What is wrong with a backup: relative paths. `left` is what an unfinished run left, and harms nobody."""

    manifest: Manifest
    listing: dict[str, str] = field(repr=False)
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every file is there, as it was written, and no other."""
        return not (self.damaged or self.missing or self.extra)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        manifest = self.manifest
        return {
            "run": manifest.run,
            "release": manifest.release,
            "schema": manifest.schema,
            "finished_at": manifest.finished_at,
            "files": manifest.files,
            "bytes": manifest.bytes,
            "tables": manifest.tables,
            "audit": manifest.audit,
            "damaged": self.damaged,
            "missing": self.missing,
            "extra": self.extra,
            "left_by_an_unfinished_run": len(self.left),
        }

    def complaints(self) -> Iterator[str]:
        """Yield what is wrong, in words."""
        yield from (f"damaged: {name} (SHA-256 differs, or it cannot be read)" for name in self.damaged)
        yield from (f"missing: {name}" for name in self.missing)
        yield from (
            f"extra: {name} is in no listing: nobody knows who put it there; it is not restored" for name in self.extra
        )


def verify(source: Path, progress: Progress) -> Verification:
    """Read every file of a backup.

    Raises
    ------
    BackupError
        When the manifest or the listing is gone or damaged: then nothing can be said of the files.
    """
    manifest = Manifest.read(source)
    result = Verification(manifest, read_listing(source, manifest))
    for name, expected in result.listing.items():
        path = source / name
        if path.is_symlink() or not path.is_file():
            result.missing.append(name)
            continue
        try:
            actual = sha256_of(path, progress)
        except OSError:  # the disk will not give it
            actual = ""
        if actual != expected:
            result.damaged.append(name)
    known = {MANIFEST, UNFINISHED, LOCK, f"{manifest.run_dir}/{LISTING}"}
    others = sorted(name for name in files_below(source) if name not in known and name not in result.listing)
    (result.left if (source / UNFINISHED).exists() else result.extra).extend(others)
    return result


def files_below(directory: Path) -> Iterator[str]:
    """Yield all that lies below a directory and is no directory, relative to it."""
    for parent, directories, files in os.walk(directory):
        links = [name for name in directories if (Path(parent) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(parent) / name).relative_to(directory).as_posix()
