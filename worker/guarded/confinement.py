"""What a guarded child gives up, layer by layer, after its imports and before its first object.

Each layer stands alone and is tried whatever became of the others; one that the platform does not give is missing and
said to be, never fatal. None of them needs root.
"""

import os
import signal
import sysconfig
from collections.abc import Callable
from pathlib import Path

from worker.guarded import kernel, landlock, limits, seccomp

_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000

WHY = {
    "limits": "an object may take all memory of this machine",
    "no new privileges": "a program with more rights could be started",
    "namespaces": "the child stays in the network of this machine",
    "Landlock": "a child taken over by an object can read the files of this user",
    "seccomp": "a child taken over by an object can use every system call",
}
"""The layers, outermost first, and what it means when one is missing."""


def confine(memory_bytes: int, parent: int, *, die_with_thread: bool) -> dict[str, tuple[bool, str]]:
    """Give up what reading an object does not need.

    Parameters
    ----------
    memory_bytes
        Address space, bytes.
    parent
        Process id of the parent.
    die_with_thread
        Have the kernel kill this process when the thread that started it ends. Only for a thread that lives as long as
        its process: Linux watches the thread, not the process (prctl(2), PR_SET_PDEATHSIG).

    Returns
    -------
    dict
        Of each layer of `WHY`: whether it is in force, and in words what of it is, or why not.
    """
    # A drain sends SIGTERM, a terminal SIGINT to the whole group: the parent decides when this process ends.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    found = restrict(tuple(WHY), memory_bytes, before_filters=lambda: _tie_to_parent(parent, die_with_thread))
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")
    return found


def restrict(
    layers: tuple[str, ...], memory_bytes: int, before_filters: Callable[[], None] = lambda: None
) -> dict[str, tuple[bool, str]]:
    """Put layers in force, those that are named, in the order of `WHY`.

    Parameters
    ----------
    before_filters
        What is still to be done when namespaces are left and files and system calls are free.
    """
    ways: dict[str, Callable[[], str]] = {
        "limits": lambda: limits.restrict(memory_bytes),
        "no new privileges": _no_new_privileges,
        "namespaces": _own_namespaces,
        "Landlock": lambda: landlock.restrict(library_places()),
        "seccomp": seccomp.restrict,
    }
    found: dict[str, tuple[bool, str]] = {}
    for layer, way in ways.items():
        if layer == "Landlock":
            before_filters()
        if layer not in layers:
            continue
        try:
            found[layer] = True, way()
        except (kernel.LayerMissing, OSError, ValueError) as error:
            found[layer] = False, str(error)
    return found


def library_places() -> list[Path]:
    """Return where the interpreter's own code lies, and this process's account of itself.

    Codecs and decoders are imported when they are first needed. Nothing of a site's is kept there; our own modules are
    imported before.
    """
    paths = sysconfig.get_paths()
    libraries = {Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return [*sorted(libraries), Path("/proc/self/status")]


def _no_new_privileges() -> str:
    kernel.prctl(kernel.NO_NEW_PRIVILEGES, 1)
    return "whatever is started"


def _own_namespaces() -> str:
    """Leave the network, and the rights that this user has outside, behind (namespaces(7))."""
    kernel.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC)
    return "own network without interfaces, own user"


def _tie_to_parent(parent: int, die_with_thread: bool) -> None:
    if die_with_thread and os.getppid() == parent:
        try:
            kernel.prctl(kernel.PARENT_DEATH_SIGNAL, signal.SIGKILL)
        except kernel.LayerMissing:
            return  # the parent closes the socket when it ends, and the alarm of a job ends an orphan at work
