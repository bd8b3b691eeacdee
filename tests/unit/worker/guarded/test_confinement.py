"""Each layer alone refuses what it is there for: tried for real, first without it (it succeeds), then with it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.guarded import seccomp
from worker.guarded.confinement import WHY

PROGRAM = Path(__file__).parents[3] / "support" / "confined.py"


def attempt(layers: str, what: str, argument: str = "") -> tuple[dict[str, list[object]], object]:
    """Return what was in force, and `did it` or the error; nothing is printed by a program that took our place."""
    command = [sys.executable, str(PROGRAM), layers, what, argument]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    lines = done.stdout.splitlines()
    assert lines, done.stderr.decode()
    said = json.loads(lines[1]) if len(lines) > 1 else "did it" if done.returncode == 0 else done.returncode
    return json.loads(lines[0]), said


@pytest.fixture
def victim() -> Iterator[str]:
    """Process id of a process of ours to be traced."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield str(process.pid)
        process.kill()


@pytest.fixture
def port() -> Iterator[str]:
    """A port of this machine at which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        yield str(listener.getsockname()[1])


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "firstread.db"
    path.write_bytes(b"rows")
    return str(path)


@pytest.fixture
def nothing() -> str:
    return ""


MATRIX = [
    ("connect", "port", "namespaces"),
    ("connect", "port", "Landlock"),
    ("connect", "port", "seccomp"),
    ("send_datagram", "port", "namespaces"),
    ("open_socket", "nothing", "seccomp"),
    ("write", "new", "Landlock"),
    ("write", "new", "seccomp"),
    ("change", "database", "Landlock"),
    ("change", "database", "seccomp"),
    ("read", "passwd", "Landlock"),
    ("read", "database", "Landlock"),
    ("fork", "nothing", "seccomp"),
    ("execute", "nothing", "Landlock"),
    ("execute", "nothing", "seccomp"),
    ("trace", "victim", "namespaces"),
    ("trace", "victim", "Landlock"),
    ("trace", "victim", "seccomp"),
    ("send_signal", "victim", "Landlock"),
    ("send_signal", "victim", "seccomp"),
    ("take_memory", "nothing", "limits"),
    ("write_much", "nothing", "limits"),
    ("open_many", "nothing", "limits"),
]


@pytest.fixture
def new(tmp_path: Path) -> str:
    return str(tmp_path / "new")


@pytest.fixture
def passwd() -> str:
    return "/etc/passwd"


@pytest.mark.parametrize(("what", "argument", "layer"), MATRIX, ids=lambda value: value)
def test_a_layer_alone_refuses(request: pytest.FixtureRequest, what: str, argument: str, layer: str) -> None:
    value = request.getfixturevalue(argument)
    _, without = attempt("", what, value)
    if without != "did it":
        pytest.skip(f"this machine forbids it to everybody: {without}")
    if argument == "new":
        Path(value).unlink()
    in_force, said = attempt(f"no new privileges,{layer}", what, value)
    there, words = in_force[layer]
    if not there:
        pytest.skip(f"no {layer} here: {words}")
    assert said in {"PermissionError", "OSError", "MemoryError", "ConnectionRefusedError", "TimeoutError"}
    assert argument != "new" or not Path(value).exists()
    assert argument != "database" or Path(value).read_bytes() == (b"mine" if what == "change" else b"rows")


def test_what_burns_processor_time_is_ended_by_the_kernel() -> None:
    _, said = attempt(",".join(WHY), "spin", "0.2")
    assert said in {-signal.SIGXCPU, -signal.SIGALRM}


def test_what_a_platform_does_not_give_is_missing_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.guarded import confinement, kernel

    monkeypatch.setattr(kernel.platform, "machine", lambda: "riscv64")
    found = confinement.restrict(("Landlock", "seccomp"), 1 << 30)
    assert found == {"Landlock": (False, "not known for riscv64"), "seccomp": (False, "not known for riscv64")}
    monkeypatch.setattr(kernel.sys, "platform", "darwin")
    found = confinement.restrict(("no new privileges", "namespaces", "Landlock", "seccomp"), 1 << 30)
    assert {words for there, words in found.values() if not there} == {"darwin has none of this"}
    assert len(found) == 4


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_one_that_a_kernel_takes(machine: str) -> None:
    steps = seccomp.program(machine, 7)
    assert len(steps) % 8 == 0
    assert 8 * 50 < len(steps) < 8 * 4096  # BPF_MAXINSNS
    assert steps.endswith(bytes.fromhex("06000000 01000500"))  # what is not on the list fails with EPERM


def run_filter(machine: str, number: int, *arguments: int, arch: int | None = None, pid: int = 7) -> str:
    """Interpret a filter as the kernel does (networking/filter.rst); `allow` or `refuse`."""
    import struct

    steps = [struct.unpack_from("=HBBI", chunk) for chunk in _chunks(seccomp.program(machine, pid))]
    words = {0: number, 4: {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine] if arch is None else arch}
    words |= {16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate(arguments)}
    at, register = 0, 0
    while True:
        code, when, otherwise, value = steps[at]
        at += 1
        if code == 0x20:
            register = words.get(value, 0)
        elif code == 0x06:
            return "allow" if value == 0x7FFF0000 else "refuse"
        else:
            holds = {0x15: register == value, 0x35: register >= value, 0x45: bool(register & value)}[code]
            at += when if holds else otherwise


def _chunks(steps: bytes) -> Iterator[bytes]:
    return (steps[at : at + 8] for at in range(0, len(steps), 8))


@pytest.mark.parametrize(
    ("machine", "read", "openat", "socket_", "clone", "execve", "kill", "tgkill", "prlimit"),
    [("x86_64", 0, 257, 41, 56, 59, 62, 234, 302), ("aarch64", 63, 56, 198, 220, 221, 129, 131, 261)],
)
def test_the_filter_says_what_it_should_on_both_architectures(
    machine: str, read: int, openat: int, socket_: int, clone: int, execve: int, kill: int, tgkill: int, prlimit: int
) -> None:
    assert run_filter(machine, read) == "allow"
    assert [run_filter(machine, number) for number in (socket_, clone, execve, kill, 425, 435)] == ["refuse"] * 6
    assert run_filter(machine, openat, 0, 0, 0o2000000) == "allow"  # O_CLOEXEC
    assert [run_filter(machine, openat, 0, 0, flags) for flags in (1, 2, 0o100, 0o1000, 0o20200000)] == ["refuse"] * 5
    assert [run_filter(machine, tgkill, pid) for pid in (7, 8)] == ["allow", "refuse"]
    assert [run_filter(machine, prlimit, pid) for pid in (0, 8)] == ["allow", "refuse"]
    assert run_filter(machine, read, arch=0x40000003) == "refuse"  # i386 on x86_64, arm on aarch64
    assert run_filter(machine, 0x40000000 + read) == "refuse"  # x32
