"""Where a network comes from: what computed it, which code, how much memory it took."""

import importlib.metadata
import os
import platform
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

LIBRARIES = (
    "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pillow", "h5py"
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """What a card says of a run's beginnings.

    `initial_weights` says in words where the first weights came from, `commit` is `git_commit()` and `libraries` are
    `library_versions()` when the run began, `notes` what is known of the films and their labels that no count of them
    shows.
    """

    initial_weights: str
    commit: str | None
    libraries: dict[str, str]
    notes: tuple[str, ...] = ()


def library_versions() -> dict[str, str]:
    """Versions of what computes, as installed, and the backend that Keras is asked to run on."""
    found = {"python": platform.python_version(), "backend": os.environ.get("KERAS_BACKEND", "tensorflow")}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of this code, with `-dirty` where the classifiers were changed; None outside a checkout."""
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", str(root))
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def peak_memory() -> int:
    """Return the most memory that this process has held at once, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB
