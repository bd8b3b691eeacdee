"""A stand-in for a guarded child, which misbehaves as a test asks."""

import sys
from pathlib import Path

STAND_IN = """#!{python}
# Speaks as a guarded child does, and misbehaves as a test asks.
import json, os, signal, socket, sys, time
options = dict(argument[2:].split("=", 1) for argument in sys.argv if argument.startswith("--") and "=" in argument)
channel = socket.socket(fileno=int(options["socket"]))
started = len(os.listdir({log!r}))
open(os.path.join({log!r}, str(started)), "w").close()
def say(**answer):
    channel.send(json.dumps(answer).encode())
def job():
    packet, files, *_ = socket.recv_fds(channel, 65536, 1)
    return json.loads(packet)["job"]
def shown(value=b"\\0\\0\\x20\\x41"):
    os.pwrite(int(options["memory"]), value, 0)
    return dict(rows=1, columns=1, frames=1, windowed=False, note="")
{body}
"""


def write_stand_in(directory: Path, body: str) -> str:
    """Write a program that is started in the interpreter's place; returns its path.

    `say(**answer)`, `job()` (waits for the next, returns its number) and `started` (how many were started before) are
    at hand; `shown()` is the answer of a decoding child.
    """
    log, script = directory / "log", directory / "python"
    log.mkdir()
    script.write_text(STAND_IN.format(python=sys.executable, log=str(log), body=body))
    script.chmod(0o700)
    return str(script)
