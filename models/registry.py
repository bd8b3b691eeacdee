"""Which classifiers there are: the shipped packages, and those a hospital keeps beside them.

A package is a folder `<name>/<version>/` with `model.keras`, `card.json`, `golden.npz`, where the card names
one `model.onnx`, and, for people, `evaluation/`.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.card import NAME, VERSION, Card, load_card
from models.errors import NotInstalledError, PackageError

SHIPPED = Path(__file__).parent / "packages"
"""Packages that come with the distribution."""

WEIGHTS = "model.keras"
ONNX = "model.onnx"
CARD = "card.json"
GOLDEN = "golden.npz"
FILES = (WEIGHTS, CARD, GOLDEN)
EVALUATION_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.(json|png|csv|md)")


@dataclass(frozen=True)
class Package:
    """A package whose card was read; its weights are hashed only when they are about to be used."""

    path: Path
    card: Card
    shipped: bool = False

    @property
    def identifier(self) -> str:
        """`name@version`."""
        return self.card.identifier

    @property
    def weights(self) -> Path:
        """The Keras archive."""
        return self.path / WEIGHTS

    @property
    def onnx(self) -> Path:
        """The same network for ONNX Runtime; there where the card says so."""
        return self.path / ONNX

    @property
    def golden(self) -> Path:
        """The image and the probabilities that the network must give for it."""
        return self.path / GOLDEN

    def verify_files(self) -> None:
        """Compare the SHA-256 of each file that the card names with the card's.

        Raises
        ------
        PackageError
            If a file is missing or is not the one of the card.
        """
        named = [(self.weights, self.card.weights_sha256), (self.golden, self.card.golden_sha256)]
        if self.card.onnx is not None:
            named.append((self.onnx, self.card.onnx.sha256))
        for path, expected in named:
            found = sha256_of(path)
            if found != expected:
                raise PackageError(
                    f"{path}: SHA-256 {found} is not the card's {expected}; the file was changed or damaged, so it is"
                    " not loaded: install the package again"
                )


@dataclass(frozen=True)
class Broken:
    """A folder that should be a package and is none."""

    path: Path
    reason: str


class Registry:
    """The installed packages; reads the folders at every call, so that an added package is seen.

    Parameters
    ----------
    extra_dir
        Packages beside the shipped ones (the setting MODELS_DIR); it need not exist.
    shipped_dir
        The shipped packages.
    """

    def __init__(self, extra_dir: Path | None = None, *, shipped_dir: Path = SHIPPED) -> None:
        self.extra_dir = extra_dir
        self.shipped_dir = shipped_dir

    def packages(self) -> list[Package]:
        """Return what can be used, by name, newest version last."""
        return self.scan()[0]

    def find(self, spec: str) -> Package:
        """Return the package `name` (its newest version) or `name@version`.

        Raises
        ------
        NotInstalledError
            If it is not there; naming what is.
        PackageError
            If it is there and broken; saying why.
        """
        name, at, version = spec.partition("@")
        packages, broken = self.scan()
        found = [p for p in packages if p.card.name == name and (not at or p.card.version == version)]
        if found:
            return found[-1]
        for item in broken:
            if item.path.parent.name == name and (not at or item.path.name == version):
                raise PackageError(f"the package {spec} is broken: {item.reason}")
        installed = ", ".join(p.identifier for p in packages) or "none"
        raise NotInstalledError(
            f"no package {spec!r} is installed; installed: {installed} (`firstread models add PATH`)"
        )

    def default_for(self, modality: str) -> Package:
        """Return the package that is the default for a modality (DICOM PS3.3 C.7.3.1.1.1).

        Of several names the shipped one goes before an added one; of a name the newest version is taken.

        Raises
        ------
        NotInstalledError
            If there is none.
        """
        fitting = [package for package in self.packages() if modality in package.card.default_for]
        if not fitting:
            raise NotInstalledError(f"no installed package is the default for {modality}; name one with --model")
        name = min(fitting, key=lambda package: (not package.shipped, package.card.name)).card.name
        return [package for package in fitting if package.card.name == name][-1]

    def refuse_installed(self, identifier: str) -> None:
        """Raise if `name@version` is installed: a changed model needs a new version.

        Raises
        ------
        PackageError
            Naming where it is.
        """
        for package in self.packages():
            if package.identifier == identifier:
                raise PackageError(f"{identifier} is installed already: {package.path}; give another version")

    def scan(self) -> tuple[list[Package], list[Broken]]:
        """Return what can be used, by name, newest version last, and what lies there and cannot be used."""
        packages: dict[str, Package] = {}
        broken: list[Broken] = []
        for root, shipped in ((self.shipped_dir, True), (self.extra_dir, False)):
            for path in _version_folders(root):
                try:
                    package = read_package(path, shipped=shipped)
                except PackageError as error:
                    broken.append(Broken(path, str(error)))
                    continue
                first = packages.setdefault(package.identifier, package)
                if first is not package:
                    broken.append(Broken(path, f"{package.identifier} is installed already: {first.path}"))
        return sorted(packages.values(), key=lambda p: (p.card.name, p.card.version_key)), broken


def _version_folders(root: Path | None) -> Iterator[Path]:
    if root is None or not root.is_dir():
        return
    for name in sorted(root.iterdir()):
        if name.is_dir() and not name.name.startswith((".", "__")):
            yield from (path for path in sorted(name.iterdir()) if path.is_dir() and not path.name.startswith("."))


def read_package(path: Path, *, shipped: bool = False) -> Package:
    """Read the package in a folder `<name>/<version>/`.

    Raises
    ------
    PackageError
        If name or version are none, the card is wrong or says another name or version, or a file is missing.
    """
    name, version = path.parent.name, path.name
    if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise PackageError(f"{path}: a package lies in <name>/<version>/, for example chest_xray_triage/1.0.0")
    card = load_card(path / CARD)
    if (card.name, card.version) != (name, version):
        raise PackageError(f"{path}: the card is that of {card.identifier}")
    need_files(path, files_of(card))
    return Package(path, card, shipped)


def files_of(card: Card) -> tuple[str, ...]:
    """Return the names of the files of a package with this card."""
    return FILES if card.onnx is None else (*FILES, ONNX)


def need_files(path: Path, files: Iterable[str] = FILES) -> None:
    """Raise unless each file of a package is there and plain.

    Raises
    ------
    PackageError
        Naming the one that is not.
    """
    for file in files:
        try:
            mode = (path / file).lstat().st_mode
        except OSError:
            raise PackageError(f"{path}: {file} is missing") from None
        if not stat.S_ISREG(mode):
            raise PackageError(f"{path}: {file} is not a plain file")


def stage_package(source: Path, models_dir: Path) -> Package:
    """Copy a package's known files from any folder into a hidden one beside the installed packages.

    The copy is what is then checked and installed, so that nothing can change between the two.

    Raises
    ------
    PackageError
        If it is no package, or that version is installed already.
    """
    if not source.is_dir():
        raise PackageError(f"{source}: there is no such folder; a package is a folder with {', '.join(FILES)}")
    need_files(source)
    card = load_card(source / CARD)
    need_files(source, files_of(card))
    staging = staging_folder(models_dir, card)
    for file in files_of(card):
        shutil.copyfile(source / file, staging / file, follow_symlinks=False)
    evaluation = source / "evaluation"
    if evaluation.is_dir() and not evaluation.is_symlink():
        (staging / "evaluation").mkdir()
        for path in evaluation.iterdir():
            if EVALUATION_FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                shutil.copyfile(path, staging / "evaluation" / path.name, follow_symlinks=False)
    return read_package(staging)


def staging_folder(models_dir: Path, card: Card) -> Path:
    """Make a hidden folder beside the packages in which one is put together.

    Returns
    -------
    Path
        `.adding-.../<name>/<version>/`, empty.

    Raises
    ------
    PackageError
        If that version is shipped, or is in `models_dir`, already; or the folder cannot be made.
    """
    for place in (models_dir, SHIPPED):
        if (place / card.name / card.version).exists():
            raise PackageError(
                f"{card.identifier} is installed already, in {place}; a changed model needs a new version"
            )
    try:
        models_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=models_dir)) / card.name / card.version
        staging.mkdir(parents=True)
    except OSError as error:
        raise PackageError(f"{models_dir}: {os.strerror(error.errno or 0)}") from None
    return staging


def install_staged(staged: Package, models_dir: Path) -> Package:
    """Move a staged package to its place in one rename, after which it is seen by everybody.

    Raises
    ------
    PackageError
        If somebody installed the same version meanwhile.
    """
    target = models_dir / staged.card.name / staged.card.version
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        staged.path.rename(target)
    except OSError as error:
        raise PackageError(f"{target}: {os.strerror(error.errno or 0)}") from None
    finally:
        discard_staged(staged)
    return read_package(target)


def discard_staged(staged: Package) -> None:
    """Remove a staged package."""
    shutil.rmtree(staged.path.parent.parent, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises
    ------
    PackageError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}") from None
