"""What is installed is found, what is broken is reported, and nothing half-checked is ever installed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import NotInstalledError, PackageError
from models.registry import (
    Package,
    Registry,
    discard_staged,
    install_staged,
    read_package,
    stage_package,
)

Make = Callable[..., Package]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def registry(root: Path, shipped: Path | None = None) -> Registry:
    return Registry(root, shipped_dir=shipped or root / "none")


def test_the_newest_version_comes_last_and_is_found(make_package: Make, root: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        make_package(version=version)
    found = registry(root)
    assert [package.card.version for package in found.packages()] == ["1.2.0", "1.9.0", "1.10.0"]
    assert found.find("tiny").card.version == "1.10.0"
    assert found.find("tiny@1.2.0").path == root / "tiny" / "1.2.0"


def test_what_is_not_installed_names_what_is(make_package: Make, root: Path) -> None:
    make_package()
    for spec in ("huge", "tiny@2.0.0", "../tiny", ""):
        with pytest.raises(NotInstalledError, match=r"tiny@1\.0\.0"):
            registry(root).find(spec)


def test_no_folder_is_an_empty_list(tmp_path: Path) -> None:
    assert registry(tmp_path / "nowhere").scan() == ([], [])
    assert Registry(None, shipped_dir=tmp_path / "nowhere").packages() == []


def test_a_broken_package_is_reported_and_costs_no_other(make_package: Make, root: Path) -> None:
    make_package()
    broken = make_package(version="2.0.0")
    (broken.path / "card.json").write_text("{")
    (make_package(version="3.0.0").path / "golden.npz").unlink()
    (root / "tiny" / "newest").mkdir()
    (root / "README.txt").write_text("not a package")
    packages, failures = registry(root).scan()
    assert [package.card.version for package in packages] == ["1.0.0"]
    assert [failure.path.name for failure in failures] == ["2.0.0", "3.0.0", "newest"]
    assert "golden.npz is missing" in failures[1].reason
    with pytest.raises(PackageError, match="is broken"):
        registry(root).find("tiny@2.0.0")


def test_the_folder_has_to_agree_with_the_card(make_package: Make, root: Path) -> None:
    package = make_package()
    package.path.rename(root / "tiny" / "7.0.0")
    with pytest.raises(PackageError, match=r"the card is that of tiny@1\.0\.0"):
        read_package(root / "tiny" / "7.0.0")


def test_a_weight_file_that_is_a_link_is_refused(make_package: Make) -> None:
    package = make_package()
    package.weights.rename(package.path / "elsewhere")
    package.weights.symlink_to("elsewhere")
    with pytest.raises(PackageError, match="not a plain file"):
        read_package(package.path)


def test_a_shipped_version_is_not_shadowed(make_package: Make, tmp_path: Path) -> None:
    shipped, extra = tmp_path / "shipped", tmp_path / "extra"
    make_package(root=shipped)
    make_package(root=extra)
    packages, failures = Registry(extra, shipped_dir=shipped).scan()
    assert [package.shipped for package in packages] == [True]
    assert "installed already" in failures[0].reason


def test_the_default_is_the_shipped_one_in_its_newest_version(make_package: Make, tmp_path: Path) -> None:
    shipped, extra = tmp_path / "shipped", tmp_path / "extra"
    make_package(root=extra, name="another")
    make_package(root=shipped)
    make_package(root=extra, version="1.1.0")
    found = Registry(extra, shipped_dir=shipped)
    assert found.default_for("DX").identifier == "tiny@1.1.0"
    with pytest.raises(NotInstalledError, match="CT"):
        found.default_for("CT")


def test_changed_files_are_told_from_the_cards(make_package: Make) -> None:
    package = make_package()
    package.verify_files()
    package.golden.write_bytes(package.golden.read_bytes() + b"\0")
    with pytest.raises(PackageError, match=r"golden\.npz: SHA-256"):
        package.verify_files()


def test_a_package_is_staged_out_of_sight_then_installed(make_package: Make, tmp_path: Path) -> None:
    source, target = make_package(root=tmp_path / "source").path, tmp_path / "target"
    (source / "evaluation").mkdir()
    (source / "evaluation" / "test.json").write_text("{}")
    (source / "evaluation" / "run.sh").write_text("")
    (source / "evaluation" / "link.json").symlink_to("/etc/hostname")
    (source / "surprise.py").write_text("")
    staged = stage_package(source, target)
    assert registry(target).scan() == ([], [])
    installed = install_staged(staged, target)
    assert installed.path == target / "tiny" / "1.0.0"
    assert sorted(str(p.relative_to(installed.path)) for p in installed.path.rglob("*")) == [
        "card.json", "evaluation", "evaluation/test.json", "golden.npz", "model.keras",
    ]  # fmt: skip
    assert [path.name for path in target.iterdir()] == ["tiny"]
    with pytest.raises(PackageError, match="installed already"):
        stage_package(source, target)


def test_what_was_staged_can_be_discarded(make_package: Make, tmp_path: Path) -> None:
    target = tmp_path / "target"
    discard_staged(stage_package(make_package().path, target))
    assert [path.name for path in target.iterdir()] == []


def test_somebody_else_installed_the_version_meanwhile(make_package: Make, tmp_path: Path) -> None:
    source, target = make_package(root=tmp_path / "source").path, tmp_path / "target"
    first, second = stage_package(source, target), stage_package(source, target)
    install_staged(first, target)
    with pytest.raises(PackageError, match="not empty"):
        install_staged(second, target)
    assert [path.name for path in target.iterdir()] == ["tiny"]


def test_what_is_no_package_is_not_staged(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no such folder"):
        stage_package(tmp_path / "nothing", tmp_path / "target")
    with pytest.raises(PackageError, match=r"model\.keras is missing"):
        stage_package(tmp_path, tmp_path / "target")
