"""Results of the `models` commands as text and in files, which nobody else can read, and which are whole or not there.

A folder of films is often named for its patient, so a list of predictions is as private as they are.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import typer

from worker.errors import FirstreadError

NO_FILE = "is no plain file but a device or a pipe, whose place no result takes"


def json_text(value: Any) -> str:
    """Write JSON; a file name that is no text is written with escapes."""
    return printable(json.dumps(value, indent=2, ensure_ascii=False))


def printable(text: str) -> str:
    """Escape what stands in a text for bytes of a file name that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def need_target(path: Path, option: str) -> None:
    """Raise, before any work is done for it, if a result cannot be written there."""
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; a file is wanted", param_hint=option)
    if path.exists() and not path.is_file():
        raise typer.BadParameter(f"{path} {NO_FILE}", param_hint=option)
    if not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}", param_hint=option)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"the folder {path.parent} cannot be written to", param_hint=option)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads (0600), in one step in place of what is there.

    Raises
    ------
    FirstreadError
        If it cannot be written, or a device or a pipe is there; what was there is left as it was.
    """
    with private_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that only its owner reads (0600), to be written bit by bit; it is there when the block ends well.

    Raises
    ------
    FirstreadError
        If it cannot be written, or a device or a pipe is there; what was there is left as it was.
    """
    try:
        if path.exists() and not path.is_file():
            raise FirstreadError(f"{path} {NO_FILE}")
        descriptor, part = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(part).unlink()
            raise
    except OSError as error:
        raise FirstreadError(f"{path}: {error.strerror}") from None
