"""The traps of this stack: what each is, what guards against it, how the guard is taken away, what must then fail."""

from tests.traps import of_the_listener, of_the_record, of_the_worker
from tests.traps.kinds import Trap


def _place(trap: Trap) -> tuple[bool, int]:
    return trap.number.startswith("M"), int(trap.number.removeprefix("M"))


TRAPS = tuple(sorted((*of_the_worker.TRAPS, *of_the_listener.TRAPS, *of_the_record.TRAPS), key=_place))
