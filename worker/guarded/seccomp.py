"""seccomp: of the kernel's system calls a process keeps what reading an object needs (seccomp(2); no root needed).

A list of what is allowed, so that what a later kernel brings is refused. What is refused fails with EPERM: Python turns
that into an error, and the object fails with a reason. Sockets, processes, threads, tracing, signals to others and
opening a file for writing are not on the list.
"""

import errno
import fcntl
import os
import struct
import termios
from ctypes import addressof, create_string_buffer

from worker.guarded.kernel import SECCOMP, architecture, prctl

_FILTER_MODE = 2
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Classic BPF: load a word of the call's description, three comparisons, the verdict."""
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where `struct seccomp_data` has them; both architectures are little endian, the low half of an argument is first."""
_FOREIGN = 0x40000000
"""Numbers of the x32 interface start here."""
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_COLUMNS = {"x86_64": 0, "aarch64": 1}
_NONE = -1
_ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68),
    "readv": (19, 65), "writev": (20, 66), "sched_yield": (24, 124), "mremap": (25, 216), "msync": (26, 227),
    "mincore": (27, 232), "madvise": (28, 233), "dup": (32, 23), "nanosleep": (35, 101), "getitimer": (36, 102),
    "setitimer": (38, 103), "getpid": (39, 172), "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "exit": (60, 93), "uname": (63, 160), "getcwd": (79, 17), "gettimeofday": (96, 169),
    "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174),
    "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "sigaltstack": (131, 132), "setrlimit": (160, 164), "gettid": (186, 178), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "restart_syscall": (219, 128), "fadvise64": (221, 223),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "getcpu": (309, 168), "getrandom": (318, 278), "membarrier": (324, 283),
    "statx": (332, 291), "rseq": (334, 293), "faccessat2": (439, 439),
    # what aarch64 has only in its newer form
    "stat": (4, _NONE), "lstat": (6, _NONE), "poll": (7, _NONE), "access": (21, _NONE), "select": (23, _NONE),
    "readlink": (89, _NONE), "time": (201, _NONE),
}  # fmt: skip
"""Name: number on x86_64, on aarch64."""

_OPEN, _OPENAT, _PRLIMIT, _TGKILL = (2, _NONE), (257, 56), (302, 261), (234, 131)
_FCNTL, _IOCTL = (72, 25), (16, 29)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000
"""The last is O_TMPFILE's own bit."""
_FCNTLS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)
_IOCTLS = (termios.TCGETS, termios.FIOCLEX)
"""What Python asks of a file that it opens."""


def _step(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when, otherwise, value)


def _when_number(number: int, then: list[bytes]) -> list[bytes]:
    return [] if number == _NONE else [_step(_EQUAL, number, 0, len(then)), *then]


def _argument(index: int) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * index)


def _only_one_of(index: int, values: tuple[int, ...]) -> list[bytes]:
    """Allow where the argument is one of the values, refuse where it is none."""
    tests = [step for value in values for step in (_step(_EQUAL, value, 0, 1), _step(_RETURN, _ALLOW))]
    return [_argument(index), *tests, _step(_RETURN, _REFUSE)]


def _only_reading(index: int) -> list[bytes]:
    """Allow where the flags of an open ask for reading alone."""
    return [_argument(index), _step(_ANY_BIT, _WRITING, 1, 0), _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]


def program(machine: str, pid: int) -> bytes:
    """Return the filter for a process on `x86_64` or `aarch64`, as the kernel takes it."""
    column = _COLUMNS[machine]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _FOREIGN, 0, 1),
        _step(_RETURN, _REFUSE),
    ]
    for numbers in _ALLOWED.values():
        steps += _when_number(numbers[column], [_step(_RETURN, _ALLOW)])
    steps += _when_number(_OPEN[column], _only_reading(1))
    steps += _when_number(_OPENAT[column], _only_reading(2))
    steps += _when_number(_PRLIMIT[column], _only_one_of(0, (0,)))  # its own limits
    steps += _when_number(_TGKILL[column], _only_one_of(0, (pid,)))  # abort() of a decoder
    steps += _when_number(_FCNTL[column], _only_one_of(1, _FCNTLS))
    steps += _when_number(_IOCTL[column], _only_one_of(1, _IOCTLS))
    steps.append(_step(_RETURN, _REFUSE))
    return b"".join(steps)


def restrict() -> str:
    """Give up every system call that is not on the list, for this process and for good.

    Returns
    -------
    str
        What is in force, in words.

    Raises
    ------
    LayerMissing
        The kernel has no seccomp, or its architecture is not known here. `no new privileges` has to be set before.
    """
    steps = program(architecture(), os.getpid())
    memory = create_string_buffer(steps, len(steps))
    description = struct.pack("@HP", len(steps) // 8, addressof(memory))
    prctl(SECCOMP, _FILTER_MODE, create_string_buffer(description, len(description)))
    return "no sockets, processes, signals or writing"
