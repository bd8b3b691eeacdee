"""Child processes: each leads its own process group, writes to a log, dies with us and is stopped in bounded time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from worker.logs import get_logger

log = get_logger(__name__)

STANDARD_ERROR = 2
SHIM = Path(__file__).with_name("die_with_parent.py")
LOG_BYTES = 10 << 20
"""A log of this size or more is put aside; of one that grew faster than we looked, no more than the last twice this."""
LOGS_KEPT = 3
"""How many logs put aside are kept: `NAME.log.1` is the newest."""
CHUNK_BYTES = 1 << 20
PRIVATE_UMASK = 0o077


def spawn(
    command: Sequence[str], log_file: Path | None, environment: Mapping[str, str], descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a command that dies with us, even when we are killed with SIGKILL.

    Whatever it makes is readable by nobody else (umask 077), unless it says otherwise itself.

    The kernel ties the child to the *thread* that started it (prctl(2), PR_SET_PDEATHSIG): call this from one that
    lives as long as the child shall. The child leads a session of its own, so that a Ctrl-C on the terminal reaches us
    alone and we decide the order in which things stop.

    Parameters
    ----------
    command
        Program and arguments.
    log_file
        Where standard output and standard error are appended (made 0600); None for our standard error.
    environment
        The whole environment of the child.
    descriptors
        Open files that the child has too, under the same numbers.

    Raises
    ------
    OSError
        The log cannot be opened or the process cannot be started.
    """
    with contextlib.ExitStack() as ours:
        output = STANDARD_ERROR
        if log_file is not None:
            output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            ours.callback(os.close, output)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(SHIM), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
            umask=PRIVATE_UMASK,
            pass_fds=descriptors,
        )


def rotate(log_file: Path) -> bool:
    """Put a log aside when it has grown large, under the process that writes it; the oldest is dropped.

    It is copied and then emptied: whoever writes it appends (`O_APPEND`) and goes on at its new end. A line written
    between the last look at the old end and the emptying is lost. A log and what is kept of it are together never
    much larger than `LOG_BYTES * (2 * LOGS_KEPT + 1)`, and about `LOG_BYTES * (LOGS_KEPT + 1)` as a rule.

    Returns
    -------
    bool
        Whether it was put aside, and is now empty.

    Raises
    ------
    OSError
        It could not be copied; it and all but the oldest of those put aside are as they were.
    """
    try:
        size = log_file.stat().st_size
    except FileNotFoundError:
        return False
    if size < LOG_BYTES:
        return False
    copy, *aside = (log_file.with_name(f"{log_file.name}.{end}") for end in ("new", *range(1, LOGS_KEPT + 1)))
    aside[-1].unlink(missing_ok=True)  # first: on a full disk this makes the room
    _copy_end(log_file, copy, at_most=2 * LOG_BYTES)
    for older, newer in zip(reversed(aside), reversed([copy, *aside[:-1]]), strict=True):
        if newer.exists():
            newer.replace(older)
    os.truncate(log_file, 0)
    return True


def _copy_end(source: Path, target: Path, *, at_most: int) -> None:
    """Copy the last bytes of a file that grows meanwhile into a private one."""
    with source.open("rb") as whole:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as end:
                whole.seek(max(0, source.stat().st_size - at_most))
                while chunk := whole.read(min(CHUNK_BYTES, at_most - end.tell())):
                    end.write(chunk)
        except OSError:
            target.unlink(missing_ok=True)  # on a full disk, half a copy would only be in the way
            raise


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a child has ended; if so, whatever it left running in its process group is killed, and it is reaped.

    The group is killed before the leader is reaped: until then its number cannot be given to anybody else.
    """
    if process.returncode is not None:
        return True
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return False
    _kill_group(process)
    process.wait()
    return True


def finish(
    process: subprocess.Popen[bytes], name: str, seconds: float, *, hurry: Callable[[], bool] = lambda: False
) -> None:
    """Ask a child to stop (SIGTERM); after `seconds` kill it and its whole process group, and say so in the log.

    Parameters
    ----------
    process
        The child.
    name
        What the log calls it.
    seconds
        How long it may take.
    hurry
        Asked again and again while waiting: whether to kill it now.
    """
    if has_ended(process):
        return
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while not has_ended(process):
        if hurry() or time.monotonic() >= deadline:
            _kill_group(process)
            process.wait()
            log.warning("service_killed", name=name, pid=process.pid, allowed_seconds=seconds, hurried=hurry())
        else:
            time.sleep(0.02)


def exists(pid: int) -> bool:
    """Say whether a process of this id exists, whoever it belongs to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def on_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have a handler called at SIGTERM, SIGINT and SIGHUP, but for those that our caller has us ignore (`nohup`)."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


class Terminal:
    """The terminal that we were started from, if there was one.

    SIGHUP says that it has gone, or, from whoever sends it by hand or by a service manager, that files are to be read
    again; this tells the two apart.
    """

    def __init__(self) -> None:
        self._had_one = _has_terminal()

    def lost(self) -> bool:
        """Say whether there was one and it has gone."""
        return self._had_one and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def describe_exit(returncode: int) -> str:
    """Say how a process ended: `exit code 1`, `killed by SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # an empty group; macOS says EPERM for zombies
        os.killpg(process.pid, signal.SIGKILL)
