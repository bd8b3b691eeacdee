"""The matrix of who may see what, said a second time: a change of it is a change of two files."""

from worker.accounts.permissions import MATRIX, Permission, Role


def test_the_matrix() -> None:
    assert {str(role): sorted(map(str, may)) for role, may in MATRIX.items()} == {
        "radiologist": ["images", "patients", "studies"],
        "ops": ["studies"],
        "auditor": ["audit"],
        "admin": ["audit", "images", "patients", "studies"],
    }
    assert set(MATRIX) == set(Role)
    assert {permission for may in MATRIX.values() for permission in may} == set(Permission)
