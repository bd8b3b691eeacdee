"""A warm child: one at a time, replaced when it dies, and never an object blamed for what another one did.

An object is blamed for what happens to a child only on the evidence of a fresh one: a child that read other objects
before may owe its end to them, so the object is tried once more.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from worker.errors import ChildLost
from worker.guarded.child import ChildEndedError, GuardedChild
from worker.logs import get_logger

log = get_logger(__name__)

Child = TypeVar("Child", bound=GuardedChild)
Taken = TypeVar("Taken")

_OUT_OF_TIME = frozenset({signal.SIGXCPU, signal.SIGALRM})
_ABORTED_FOR_MEMORY = ("memory allocation of", "std::bad_alloc")
"""What Rust and C++ say before they abort because memory was refused to them."""


class JobFailed(Exception):
    """The object cannot be read, or costs more than it may; the message says why, for a person."""


@dataclass(frozen=True)
class Trade:
    """What a kind of child does, in words.

    Attributes
    ----------
    doing
        `decoding`, in `decoding took longer than …`.
    process
        `the decoding process`.
    done
        What is said of an object at which a child ended: `decoded this object`.
    damaged
        What is then likely: `its pixel data are damaged`.
    """

    doing: str
    process: str
    done: str
    damaged: str


class WarmChild(Generic[Child]):
    """Does jobs in a child that is started when it is needed; may be shared by threads, one job at a time.

    Parameters
    ----------
    trade
        What it does, for messages.
    start
        Starts a child.
    seconds, memory_bytes
        What a job may take, for messages.
    announce
        Log once what is in force: a service does, a command has its own output.
    """

    def __init__(
        self,
        trade: Trade,
        start: Callable[[], Child],
        *,
        seconds: float,
        memory_bytes: int,
        announce: bool = False,
    ) -> None:
        self._trade = trade
        self._start = start
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._announce = announce
        self._child: Child | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the child now rather than with the first job; nobody waits for it."""
        with self._lock:
            self._running_child()

    def close(self) -> None:
        """End the child; a later job starts another."""
        with self._lock:
            self._end_child()

    def layers(self) -> dict[str, tuple[bool, str]]:
        """Return what a running child says is in force (`worker.guarded.confinement`).

        Raises
        ------
        ChildLost
            It cannot be started.
        """
        with self._lock:
            return self._ready_child().layers

    def probe(self) -> list[str]:
        """Return what a running child found that it can still do (`worker.guarded.probes`).

        Raises
        ------
        ChildLost
            It cannot be started, or ended.
        """
        with self._lock:
            try:
                return [str(name) for name in self._ready_child().ask({"probe": True})["possible"]]
            except (ChildEndedError, TimeoutError, ValueError, TypeError, KeyError) as error:
                self._end_child()
                raise ChildLost(f"{self._trade.process} did not answer: {type(error).__name__}") from error

    def do(
        self,
        request: Mapping[str, object],
        file: int,
        take: Callable[[Child, dict[str, Any]], Taken],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Taken:
        """Do one job.

        Parameters
        ----------
        request
            What the child is asked.
        file
            Descriptor of the object.
        take
            Checks the answer and makes of it what is returned; ValueError, TypeError and KeyError mean that it is
            nonsense.
        meanwhile
            Done by us, once, while the child works.

        Raises
        ------
        JobFailed
            The object cannot be read, or costs more than it may.
        ChildLost
            The child cannot be started; the object may be fine.
        """
        with self._lock:
            return self._do(request, file, take, meanwhile)

    def _do(
        self,
        request: Mapping[str, object],
        file: int,
        take: Callable[[Child, dict[str, Any]], Taken],
        meanwhile: Callable[[], object],
    ) -> Taken:
        doing, pending = self._trade.doing, meanwhile

        def once() -> None:
            nonlocal pending
            now, pending = pending, lambda: None
            now()

        while True:
            child = self._ready_child()
            fresh = child.served == 0
            try:
                answer = child.ask(request, file, once)
                if "failure" not in answer:
                    return take(child, answer)
            except ChildEndedError as ended:
                log.warning("child_ended", child=doing, how=str(ended), fresh=fresh, at_work=ended.at_work)
                last_words = child.last_words()
                self._end_child()
                if fresh:
                    raise self._blame(ended, last_words) from ended
                continue
            except TimeoutError as error:
                log.warning("child_out_of_time", child=doing, seconds=self._seconds, fresh=fresh)
                self._end_child()
                raise self._too_slow() from error
            except (ValueError, TypeError, KeyError) as error:
                # Only a child taken over by what it reads speaks otherwise than its program does.
                self._end_child()
                raise JobFailed(f"{self._trade.process} answered nonsense to this object: {error}") from error
            except BaseException:
                # Whatever interrupted us, an answer may be on its way: the next object must not be given this one's.
                self._end_child()
                raise
            if answer["failure"] == "memory":
                log.warning("child_out_of_memory", child=doing, memory_bytes=self._memory_bytes, fresh=fresh)
                self._end_child()
                if fresh:
                    raise self._too_large()
                continue
            reason = " ".join(str(answer.get("reason")).split())
            if answer["failure"] == "surprise":
                log.warning("child_surprised", child=doing, error=reason)
                reason = f"{self._trade.doing} failed: {reason}"
            raise JobFailed(reason)

    def add(
        self, child: Child, request: Mapping[str, object], take: Callable[[Child, dict[str, Any]], Taken]
    ) -> Taken | None:
        """Ask for something more of an object that a child has done, without handing it over again.

        Parameters
        ----------
        child
            Who did it, as `take` of `do` saw it.
        request, take
            As of `do`; the request says of which job.

        Returns
        -------
        object or None
            What `take` makes of the answer; None where the child is gone, fails or says no. Nobody is blamed for that:
            the object was read.
        """
        with self._lock:
            if child is not self._child or child.owner != os.getpid():
                return None
            try:
                answer = child.ask(request)
                if "failure" not in answer:
                    return take(child, answer)
                reason = str(answer.get("reason"))
                if answer["failure"] == "memory":
                    self._end_child()
            except (ChildEndedError, TimeoutError, ValueError, TypeError, KeyError) as error:
                reason = type(error).__name__
                self._end_child()
            except BaseException:
                self._end_child()
                raise
            log.warning("child_added_nothing", child=self._trade.doing, why=reason)
            return None

    def drop(self) -> None:
        """End the child from within `take`: the next job gets a fresh one."""
        self._end_child()

    def _running_child(self) -> Child:
        if self._child is not None and self._child.owner != os.getpid():
            self._end_child()  # we are a fork: two processes must not talk to one child
        if self._child is None:
            self._child = self._start()
        return self._child

    def _ready_child(self) -> Child:
        child = self._running_child()
        try:
            child.wait_until_ready()
        except BaseException:
            self._end_child()
            raise
        if self._announce:
            self._announce = False  # it is the same at every restart
            layers = child.layers.items()
            log.info(
                "child_confined",
                child=self._trade.doing,
                in_force={name: words for name, (there, words) in layers if there},
                missing={name: words for name, (there, words) in layers if not there},
            )
        return child

    def _end_child(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            child.end()

    def _blame(self, ended: ChildEndedError, last_words: str) -> JobFailed | ChildLost:
        if not ended.at_work:
            return ChildLost(f"{self._trade.process} ended before it was given the object ({ended})")
        if ended.signal in _OUT_OF_TIME:
            return self._too_slow()
        if any(words in last_words for words in _ABORTED_FOR_MEMORY):
            return self._too_large()
        killed = ended.signal == signal.SIGKILL
        why = "the system may have run out of memory" if killed else self._trade.damaged
        return JobFailed(f"{self._trade.process} was ended by {ended} while it {self._trade.done}: {why}")

    def _too_large(self) -> JobFailed:
        return JobFailed(f"{self._trade.doing} needed more than {_size(self._memory_bytes)} of memory")

    def _too_slow(self) -> JobFailed:
        return JobFailed(f"{self._trade.doing} took longer than {self._seconds:g} seconds")


def _size(count: int) -> str:
    return f"{count / (1 << 30):.3g} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
