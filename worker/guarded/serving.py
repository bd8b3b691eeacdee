"""The child's side: give up what is not needed, then do one job after the other, whatever the objects are.

It talks over one socket, a message a packet, as JSON. Once at the start, `{"job": 0, "layers"}`: ready, and what is in
force (`worker.guarded.confinement`). In: `{"job", …}` with the descriptor of a file. Out: `{"job", …}`, or `{"job",
"failure", "reason"}` where `failure` is `refused` (the reason is for a person), `memory` or `surprise`. A job `{"job",
"probe": true}` without a file is answered by `{"job", "possible"}` (`worker.guarded.probes`).
"""

import argparse
import json
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.errors import Never
from worker.guarded import probes
from worker.guarded.confinement import confine
from worker.guarded.limits import deadline

PACKET_BYTES = 1 << 17
"""Longest message, bytes."""

REASON_CHARACTERS = 500

Handler = Callable[[dict[str, Any], int], dict[str, Any]]
"""Does one job: (what was asked, descriptor of the file, -1 where none came with it) → the answer."""


def child_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of what every child is told at its start."""
    parser = argparse.ArgumentParser(description=f"{description}; not for use by hand")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--parent", type=int, required=True, help="process id of the parent")
    parser.add_argument("--seconds", type=float, required=True, help="time a job may take")
    parser.add_argument("--memory-bytes", type=int, required=True, help="address space, bytes")
    parser.add_argument("--die-with-thread", action="store_true", help="end when the starting thread does")
    return parser


def serve(options: argparse.Namespace, handle: Handler) -> None:
    """Confine this process, then serve jobs until the parent closes the socket."""
    # pydicom warns of much that is harmless; what matters is raised or becomes a note.
    warnings.simplefilter("ignore")
    with socket.socket(fileno=options.socket) as channel:
        layers = confine(options.memory_bytes, options.parent, die_with_thread=options.die_with_thread)
        channel.send(_message({"job": 0, "layers": layers}))
        while True:
            packet, files, *_ = socket.recv_fds(channel, PACKET_BYTES, 1)
            if not packet:
                return
            job = json.loads(packet)
            if job.get("probe"):
                channel.send(_message({"job": job["job"], "possible": probes.attempt_all()}))
                continue
            message = _message({"job": job["job"], **answer(job, files, handle, options.seconds)})
            if len(message) > PACKET_BYTES:
                reason = f"what is to be told of it is longer than {PACKET_BYTES >> 10} KiB"
                message = _message({"job": job["job"], "failure": "refused", "reason": reason})
            channel.send(message)


def _message(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")


def answer(job: dict[str, Any], files: list[int], handle: Handler, seconds: float) -> dict[str, Any]:
    """Do one job; whatever goes wrong becomes an answer."""
    try:
        with deadline(seconds):
            return handle(job, files[0] if files else -1)
    except Never as error:
        return {"failure": "refused", "reason": str(error)[:REASON_CHARACTERS]}
    except MemoryError:
        return {"failure": "memory", "reason": ""}
    except Exception as error:  # noqa: BLE001 - damaged bytes lead parsers anywhere; the object failed, not the service
        places = " < ".join(
            f"{Path(f.filename).name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__))
        )
        # Its words may quote values, of patients too.
        return {"failure": "surprise", "reason": f"{type(error).__name__} at {places}"[:REASON_CHARACTERS]}
    finally:
        for file in files:
            os.close(file)
