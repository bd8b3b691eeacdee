"""A worker with a fault built in, as a process: `python -P faulty_worker.py FAULT WITNESS ARGUMENTS-OF-FIRSTREAD…`.

The fault strikes where no signal from outside could be aimed; a line in the file WITNESS says that it has struck.

    hold           stands still in the middle of its batch, when it comes to read the object that holds `MARK`
    poison         dies of SIGKILL when it comes to read that object, as of the kernel's hand when memory ends
    lose-message   dies between popping a message from Redis and noting that it has it (kombu's window)
    together       no fault, bad luck: has the results of its first batch in hand at the same moment as another worker
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

MARK = "THE-MARKED-ONE"
"""Patient ID of the object at which `hold` and `poison` strike."""


MEETING_SECONDS = 30.0


def strike_at_the_marked_one(fault: str, witness: Path) -> None:
    """Strike in the process of the worker itself, where a decoding child cannot be blamed."""
    from worker.inference.pixels import PixelReader

    prepared = PixelReader.prepared

    def faulty_prepared(self: PixelReader, path: Path, *what: Any, **how: Any) -> Any:
        if MARK.encode() in path.read_bytes():
            strike(witness)
            if fault == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        return prepared(self, path, *what, **how)

    PixelReader.prepared = faulty_prepared  # type: ignore[method-assign]


def strike_at_the_next_message(witness: Path) -> None:
    """End the process with a message in hand that Redis has forgotten and nobody has noted."""
    from kombu.transport.redis import QoS

    def die(*_: object) -> NoReturn:
        strike(witness)
        os._exit(1)

    QoS.append = die


def meet_after_the_first_batch(witness: Path) -> None:
    """Let the first results wait until two workers have some, so that both commit theirs at once."""
    from worker.inference import classify as room

    score = room.score

    def score_and_meet(*arguments: Any) -> Any:
        outcomes = score(*arguments)
        if not met:
            met.append(True)
            strike(witness)
            deadline = time.monotonic() + MEETING_SECONDS
            while len(witness.read_text().split()) < 2 and time.monotonic() < deadline:
                time.sleep(0.001)
        return outcomes

    met: list[bool] = []
    room.score = score_and_meet


def strike(witness: Path) -> None:
    with witness.open("a") as file:
        file.write(f"{os.getpid()}\n")


if __name__ == "__main__":
    chosen, seen, *arguments = sys.argv[1:]
    if chosen == "lose-message":
        strike_at_the_next_message(Path(seen))
    elif chosen == "together":
        meet_after_the_first_batch(Path(seen))
    else:
        strike_at_the_marked_one(chosen, Path(seen))
    from worker.cli import main

    sys.argv[1:] = arguments
    main()
