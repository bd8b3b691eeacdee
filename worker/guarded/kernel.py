"""Calls to the Linux kernel that Python has no function for, each checked, without a compiled helper."""

import ctypes
import os
import platform
import sys

NO_NEW_PRIVILEGES = 38
PARENT_DEATH_SIGNAL = 1
SECCOMP = 22
"""Options of prctl(2)."""

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""System calls newer than 2019 have one number on every architecture."""


class LayerMissing(Exception):
    """The platform does not give this layer; the message says why."""


def architecture() -> str:
    """Return `x86_64` or `aarch64`.

    Raises
    ------
    LayerMissing
        It is no Linux, or another architecture, or a 32-bit process.
    """
    machine = platform.machine()
    if sys.platform != "linux":
        raise LayerMissing(f"{sys.platform} has none of this")
    if machine not in {"x86_64", "aarch64"} or sys.maxsize < 1 << 32:
        raise LayerMissing(f"not known for {machine}")
    return machine


def _libc() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise LayerMissing(f"{sys.platform} has none of this")
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise LayerMissing(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def prctl(option: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> None:
    """Call prctl(2); what it wants of further arguments is 0.

    Raises
    ------
    LayerMissing
        The kernel refused.
    """
    filled = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc().prctl(ctypes.c_int(option), *filled), f"prctl {option}")


def landlock(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make one of the three system calls of Landlock; return what it returned.

    Raises
    ------
    LayerMissing
        The kernel refused.
    """
    filled = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *filled), "Landlock")


def unshare(flags: int) -> None:
    """Call unshare(2), which Python has from 3.12 on.

    Raises
    ------
    LayerMissing
        The kernel refused.
    """
    _checked(_libc().unshare(ctypes.c_int(flags)), "unshare")
