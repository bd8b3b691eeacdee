"""Landlock: a process gives up the file system, TCP and signals to others (landlock(7), Linux 5.13; no root needed)."""

import os
import struct
from collections.abc import Sequence
from ctypes import create_string_buffer
from pathlib import Path

from worker.guarded.kernel import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    architecture,
    landlock,
)

_VERSION_FLAG = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIRECTORY = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files there are from which version of the interface on: execute, write, read, make, remove …"""
_TCP = 0b11
"""Bind and connect; from version 4 on."""
_SCOPES = 0b11
"""Abstract unix sockets and signals of processes outside; from version 6 on."""


def restrict(readable: Sequence[Path]) -> str:
    """Allow this process to read what lies in these places, and nothing else of the file system.

    Files that are open already stay open. TCP connections, abstract unix sockets, and signals to and tracing of
    processes outside are refused as far as the kernel knows how.

    Parameters
    ----------
    readable
        Directories and files; one that is not there is left out.

    Returns
    -------
    str
        What is in force, in words.

    Raises
    ------
    LayerMissing
        The kernel has no Landlock, or has it switched off.
    """
    architecture()
    version = landlock(LANDLOCK_CREATE_RULESET, None, 0, _VERSION_FLAG)
    rights = (1 << max(count for since, count in _FILE_RIGHTS.items() if since <= version)) - 1
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", _TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    rules = landlock(LANDLOCK_CREATE_RULESET, create_string_buffer(attributes, len(attributes)), len(attributes), 0)
    try:
        for path in readable:
            _allow_reading(rules, path)
        landlock(LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    more = [words for since, words in ((4, "TCP"), (6, "signals")) if version >= since]
    return " and ".join(["files", *more]) if len(more) < 2 else f"files, {more[0]} and {more[1]}"


def _allow_reading(rules: int, path: Path) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be read
    try:
        right = _READ_FILE | (_READ_DIRECTORY if path.is_dir() else 0)
        rule = struct.pack("=Qi", right, place)
        landlock(LANDLOCK_ADD_RULE, rules, _PATH_BENEATH, create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(place)
