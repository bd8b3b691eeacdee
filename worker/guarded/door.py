"""The door of a room to its guarded child: warm while it is open."""

from types import TracebackType
from typing import Generic, Self

from worker.guarded.warm import Child, WarmChild


class Door(Generic[Child]):
    """Has a child read objects; used with `with`, the child is started at once and ended afterwards.

    Attributes
    ----------
    child
        The child, warm.
    """

    def __init__(self, child: WarmChild[Child]) -> None:
        self.child = child

    def __enter__(self) -> Self:
        self.child.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a later `read` starts another."""
        self.child.close()
