"""How many processes serve the ports, and what each has from the listener."""

import os

import pytest

from dicom_listener.acceptor import ASSOCIATIONS, Inheritance
from dicom_listener.acceptors import processes


@pytest.mark.parametrize(
    ("wanted", "cores", "count"), [(0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 2), (0, 64, 4), (1, 64, 1), (8, 2, 8)]
)
def test_as_many_as_wanted_else_one_for_two_cores(
    monkeypatch: pytest.MonkeyPatch, wanted: int, cores: int, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    assert processes(wanted) == count


def test_what_is_inherited_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Inheritance(run=7, sockets=(5, 6), places=9)
    for name, value in given.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Inheritance.taken() == given
    assert not any("ACCEPTOR" in name for name in os.environ)


def test_no_two_share_partial_files_or_numbers() -> None:
    first, second = Inheritance(1, (), 0), Inheritance(11, (), 0)
    assert not f".{second.writer}.part".endswith(f".{first.writer}.part")
    assert (second.run - first.run) * ASSOCIATIONS > ASSOCIATIONS
