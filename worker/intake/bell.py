"""The bell at the spool: the listener rings when something has come, so that intake need not find out by looking.

A named pipe beside the other files of running processes. It is a hint and no more: where nobody hears it, or it cannot
be made, intake looks at the spool twenty times a second anyhow, and finds what has come.
"""

import contextlib
import os
import stat
import threading
from pathlib import Path

from worker.logs import get_logger

log = get_logger(__name__)

NAME = "intake.bell"
"""In the `run` directory."""


class Rope:
    """The end that rings; for one process, any thread of it.

    Parameters
    ----------
    path
        Where the pipe is, once somebody listens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pipe = -1
        # A descriptor that another thread closes may be an object's a moment later: nobody else may write to it then.
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Ring, never waiting; where nobody listens nothing happens."""
        with self._lock:
            try:
                if self._pipe < 0:
                    self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(self._pipe, b"\0")
            except BlockingIOError:  # it rings already, loud enough
                return
            except OSError:  # not there, or nobody listens any more; another ring tries anew
                self._let_go()

    def close(self) -> None:
        """Let the pipe go."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            with contextlib.suppress(OSError):
                os.close(pipe)


class Bell:
    """The end that hears; a descriptor to wait for.

    Parameters
    ----------
    path
        Where the pipe is made (0600) if it is not there.

    Raises
    ------
    OSError
        It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # For writing too: a pipe that nobody rings just now must not count as ended.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(self._pipe).st_mode):
            self.close()
            raise FileExistsError(f"{path} is no named pipe: remove it")

    def fileno(self) -> int:
        """Return the descriptor that is readable once it has rung."""
        return self._pipe

    def hush(self) -> None:
        """Forget that it rang; to be done before looking, so that what comes meanwhile rings again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, 1 << 16)

    def close(self) -> None:
        """Let the pipe go; it stays where it is for whoever listens next."""
        os.close(self._pipe)
