"""Which code and which libraries made a network."""

import platform

import pytest

from models.training import provenance
from models.training.provenance import git_commit, library_versions, peak_memory


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_changed_code_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"rev-parse": "abc", "status": " M models/card.py"}
    monkeypatch.setattr(provenance, "_git", lambda _root, *arguments: answers[arguments[0]])
    assert git_commit() == "abc-dirty"


def test_libraries_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    found = library_versions()
    assert (found["python"], found["backend"]) == (platform.python_version(), "jax")
    assert {"keras", "numpy"} < set(found)


def test_memory_only_grows() -> None:
    before = peak_memory()
    held = bytearray(64 << 20)
    held[:: 4 << 10] = b"1" * len(held[:: 4 << 10])
    assert peak_memory() >= before > 1e6
