"""Where a training run works until its package is finished: a hidden folder that no registry looks into."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from models.card import VERSION
from models.errors import DataError
from models.registry import Package, read_package
from models.training.checkpoint import Checkpoints

PREFIX = ".training-"
LOCK = "lock"
FIRST_VERSION = "1.0.0"


class RunFolder:
    """The folder of a run, held by one process at a time.

    Enter it to hold it; on leaving, it is let go, and removed where nothing was kept in it.

    Parameters
    ----------
    path
        `<models folder>/.training-.../`; in it the state, and `<name>/<version>/`, where the package is put together.
    name, version
        Of the package to be.
    """

    def __init__(self, path: Path, name: str, version: str) -> None:
        self.path = path
        self.name = name
        self.version = version
        self._lock = -1

    @classmethod
    def new(cls, models_dir: Path, name: str, version: str) -> Self:
        """Make the folder of a new run.

        Raises
        ------
        DataError
            If the version is none, or is there already, or the folder cannot be made.
        """
        if not VERSION.fullmatch(version):
            raise DataError(f"version {version!r} is not MAJOR.MINOR.PATCH, for example {FIRST_VERSION}")
        if (models_dir / name / version).exists():
            raise DataError(f"{models_dir / name / version} is there already; give another --version or --out")
        try:
            models_dir.mkdir(parents=True, exist_ok=True)
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=models_dir))
            (path / name / version).mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{models_dir}: {error.strerror}; give a folder that can be written into") from None
        return cls(path, name, version)

    @classmethod
    def at(cls, path: Path) -> Self:
        """Return the run in a folder.

        Raises
        ------
        DataError
            If there is none with anything to go on from.
        """
        found = [] if not path.is_dir() else [folder for folder in path.glob("*/*/") if VERSION.fullmatch(folder.name)]
        if len(found) != 1 or not Checkpoints(path).there():
            raise DataError(f"{path}: no training run was broken off here that had learnt anything")
        return cls(path, found[0].parent.name, found[0].name)

    @property
    def package(self) -> Path:
        """Where the package is put together."""
        return self.path / self.name / self.version

    @property
    def checkpoints(self) -> Checkpoints:
        """The state of the run."""
        return Checkpoints(self.path)

    def held(self) -> bool:
        """Whether a process is at work in it."""
        try:
            self.__enter__()
        except DataError:
            return True
        self._let_go()
        return False

    def __enter__(self) -> Self:
        try:
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise DataError(f"{self.path}: another process is at work on this training run") from None
        except OSError as error:
            self._let_go()
            raise DataError(f"{self.path}: {error.strerror}; a training run needs a folder of its own") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path.is_dir() and not self.checkpoints.there():
            shutil.rmtree(self.path)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def finish(self) -> Package:
        """Move the finished package to its place, and remove the folder.

        Raises
        ------
        DataError
            If the same version has come there meanwhile.
        """
        target = self.path.parent / self.name / self.version
        target.parent.mkdir(exist_ok=True)
        try:
            self.package.rename(target)
        except OSError as error:
            raise DataError(f"{target}: {error.strerror}; the finished package lies in {self.package}") from None
        shutil.rmtree(self.path)
        return read_package(target)


def broken_off(models_dir: Path, name: str, version: str | None = None) -> list[RunFolder]:
    """Return the runs of a recipe that were broken off in a folder, oldest first; not those that are at work."""
    found = []
    for path in sorted(models_dir.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime):
        try:
            run = RunFolder.at(path)
        except DataError:  # it had learnt nothing, or is no run
            continue
        if run.name == name and version in {None, run.version} and not run.held():
            found.append(run)
    return found


def next_version(models_dir: Path, name: str, others: Iterable[str] = ()) -> str:
    """Return the version that a new package has where none is asked for.

    Parameters
    ----------
    models_dir
        Where the package is to be; runs at work there, or broken off, have taken their version too.
    name
        Of the package.
    others
        Versions that are there elsewhere, for example shipped.

    Returns
    -------
    str
        1.0.0, or the next minor version after the highest there is.
    """
    runs = [RunFolder(folder.parent.parent, name, folder.name) for folder in models_dir.glob(f"{PREFIX}*/{name}/*")]
    there = [folder.name for folder in models_dir.glob(f"{name}/*")]
    there += [run.version for run in runs if run.checkpoints.there() or run.held()]
    taken = [version for version in (*there, *others) if VERSION.fullmatch(version)]
    if not taken:
        return FIRST_VERSION
    major, minor, _ = max([int(part) for part in version.split(".")] for version in taken)
    return f"{major}.{minor + 1}.0"
