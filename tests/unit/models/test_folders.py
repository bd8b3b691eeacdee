"""A folder is taken for the package in it, or for the one below it, and never for one of several."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import NotInstalledError, PackageError
from models.folders import find_package, package_folder
from models.registry import Package, Registry

Make = Callable[..., Package]


@pytest.fixture
def out(make_package: Make, tmp_path: Path) -> Path:
    """What `models train --out` writes into."""
    make_package(root=tmp_path / "out")
    return tmp_path / "out"


def test_the_package_is_found_at_each_level(out: Path) -> None:
    (out / ".training-x" / "tiny" / "2.0.0").mkdir(parents=True)
    (out / "tiny" / "notes").mkdir()
    for folder in (out, out / "tiny", out / "tiny" / "1.0.0"):
        assert package_folder(folder) == out / "tiny" / "1.0.0"


def test_of_several_none_is_chosen(out: Path, make_package: Make) -> None:
    make_package(root=out, version="2.0.0")
    with pytest.raises(PackageError, match=r"did you mean .*tiny/1\.0\.0 or .*tiny/2\.0\.0\?"):
        package_folder(out)


def test_a_folder_without_any_says_what_a_package_is(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "card.json").write_text("{}")
    with pytest.raises(PackageError, match=r"no package in it or up to two levels below.*model\.keras, card\.json"):
        package_folder(tmp_path)
    with pytest.raises(PackageError, match="there is no such folder"):
        package_folder(tmp_path / "nothing")


def test_a_name_or_a_folder_finds_a_package(out: Path, make_package: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = make_package(version="3.0.0")
    registry = Registry(installed.path.parent.parent, shipped_dir=out / "none")
    assert find_package(registry, "tiny").path == installed.path
    assert find_package(registry, str(out)).identifier == "tiny@1.0.0"
    monkeypatch.chdir(out)
    assert find_package(registry, "tiny").identifier == "tiny@3.0.0"
    assert find_package(registry, "./tiny").identifier == "tiny@1.0.0"
    assert find_package(registry, "tiny/1.0.0").identifier == "tiny@1.0.0"
    with pytest.raises(NotInstalledError, match="nor is there such a folder"):
        find_package(registry, "./huge")


def test_a_folder_may_have_any_name_and_has_to_be_whole(out: Path, tmp_path: Path) -> None:
    registry = Registry(None, shipped_dir=tmp_path / "none")
    shutil.copytree(out / "tiny" / "1.0.0", tmp_path / "from elsewhere")
    assert find_package(registry, str(tmp_path / "from elsewhere")).identifier == "tiny@1.0.0"
    (tmp_path / "from elsewhere" / "golden.npz").unlink()
    with pytest.raises(PackageError, match=r"golden\.npz is missing"):
        find_package(registry, str(tmp_path / "from elsewhere"))
