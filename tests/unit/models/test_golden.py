"""Phantoms that never change, of the kind that a network is to see, and pairs that are what they say."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from models.errors import PackageError
from models.golden import golden_image, golden_slice, load_golden, phantom_for, save_golden
from models.registry import SHIPPED, Package, Registry


def test_a_ct_package_gets_a_slice_and_every_other_a_film() -> None:
    for modalities in (("CT",), ("DX", "CT")):
        assert np.array_equal(phantom_for(modalities), golden_slice())
    for modalities in ((), ("CR", "DX", "RG")):
        assert np.array_equal(phantom_for(modalities), golden_image())


def test_a_slice_is_a_round_body_in_air_with_two_lungs() -> None:
    piece = golden_slice().astype(np.float32)
    assert piece.shape == (160, 160)
    assert max(piece[0].max(), piece[-1].max(), piece[:, 0].max(), piece[:, -1].max()) < 30
    right, body, left = piece[76, 25:60].mean(), piece[76, 74:86].mean(), piece[50:90, 122:136].mean()
    assert right < 80
    assert left < 80
    assert body > 150


def test_phantoms_stay_the_same() -> None:
    """A changed phantom would change no package, which carries its own, but no golden pair could be made again."""
    assert [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in (golden_image(), golden_slice())] == [
        "0a299e5d03c541ad",
        "f14d45d85f2caa14",
    ]


@pytest.mark.parametrize("package", Registry(shipped_dir=SHIPPED).packages(), ids=lambda package: package.identifier)
def test_every_shipped_package_carries_a_phantom_of_this_file(package: Package) -> None:
    card = package.card
    image, expected = load_golden(package.golden, len(card.labels))
    assert np.array_equal(image, phantom_for(card.default_for))
    assert expected.sum() == pytest.approx(1, abs=1e-5)


def test_a_pair_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_golden(tmp_path / "golden.npz", golden_slice(), np.asarray([0.25, 0.75], np.float32))
    image, expected = load_golden(tmp_path / "golden.npz", 2)
    assert np.array_equal(image, golden_slice())
    assert expected.tolist() == [0.25, 0.75]
    with pytest.raises(PackageError, match="3 probabilities are expected"):
        load_golden(tmp_path / "golden.npz", 3)
    (tmp_path / "golden.npz").write_bytes(b"PK\3\4 torn")
    with pytest.raises(PackageError, match="no golden pair"):
        load_golden(tmp_path / "golden.npz", 2)
