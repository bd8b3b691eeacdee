"""A model named by the folder it lies in, which is how one has it before it is installed."""

from pathlib import Path

from models.card import NAME, load_card
from models.errors import NotInstalledError, PackageError
from models.registry import CARD, FILES, Package, Registry, files_of, need_files

LEVELS = ("*", "*/*")
"""Below a folder a package is looked for where `models train --out` puts it: `<name>/<version>/`, or `<version>/`."""


def package_folder(path: Path) -> Path:
    """Return the folder of a package: the one given, or the only one up to two levels below it.

    Raises
    ------
    PackageError
        If there is no such folder, no package in it, or several; naming them.
    """
    if not path.is_dir():
        raise PackageError(f"{path}: there is no such folder; a package is a folder with {', '.join(FILES)}")
    if any((path / file).exists() for file in FILES):
        return path
    found = sorted(
        card.parent
        for level in LEVELS
        for card in path.glob(f"{level}/{CARD}")
        if not any(part.startswith(".") for part in card.relative_to(path).parts)
    )
    if not found:
        raise PackageError(
            f"{path}: there is no package in it or up to two levels below; a package is a folder with"
            f" {', '.join(FILES)}"
        )
    if len(found) > 1:
        raise PackageError(
            f"{path}: there are {len(found)} packages below it; did you mean {' or '.join(map(str, found))}?"
        )
    return found[0]


def find_package(registry: Registry, spec: str) -> Package:
    """Return the package of a name, `name@version`, or folder.

    What reads as the name of an installed package is that package, even beside a folder of the same name; for the
    folder write `./NAME`.

    Raises
    ------
    NotInstalledError
        If it is neither; naming what is installed.
    PackageError
        If the package, or the folder, is broken.
    """
    folder = Path(spec)
    named = NAME.fullmatch(spec.partition("@")[0]) is not None
    if folder.is_dir() and not (named and _installed(registry, spec)):
        path = package_folder(folder)
        need_files(path)
        card = load_card(path / CARD)
        need_files(path, files_of(card))
        return Package(path, card)
    try:
        return registry.find(spec)
    except NotInstalledError as error:
        if named:
            raise
        raise NotInstalledError(f"{error}, nor is there such a folder") from None


def _installed(registry: Registry, spec: str) -> bool:
    try:
        registry.find(spec)
    except NotInstalledError:
        return False
    except PackageError:  # installed and broken, which whoever asks by its name is to hear
        return True
    return True
