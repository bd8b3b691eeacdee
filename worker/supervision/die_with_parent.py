"""Become the command given, after asking the kernel to kill us when our parent dies.

Run as a script, `python -I -S die_with_parent.py PARENT_PID COMMAND...`: the request is made between the fork and the
command, in a process of one thread, because code of ours between fork and exec in a process of many threads
(`preexec_fn`) may deadlock. The request survives the exec. Linux only; elsewhere the command is simply run.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask, make sure that the parent had not died before we asked, and become the command.

    Raises
    ------
    OSError
        The kernel refused (prctl(2)), or the command cannot be executed.
    """
    parent, *command = arguments
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        raise SystemExit(f"process {parent}, which started this, is gone")
    os.execvp(command[0], command)  # noqa: S606 - a list, never a shell


if __name__ == "__main__":
    main(sys.argv[1:])
