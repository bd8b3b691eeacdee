"""Structured logs: one line per event, with UIDs and never names."""

import contextlib
import json
import logging
import sys
import time
import traceback
import warnings
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from worker.log_limit import LineLimit

PATIENT_KEYS = frozenset({"patient_name", "patient_id", "patient_birth_date", "accession_number", "dataset", "ds"})
"""Keys that must never reach a log line; a line that tries is written without them and says so."""


def drop_patient_data(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove what names a patient, and leave a mark that a caller tried."""
    offending = PATIENT_KEYS & event.keys()
    for key in offending:
        del event[key]
    if offending:
        event["withheld"] = sorted(offending)
    return event


def tame(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Let no peer's words look like lines of ours: its control characters are spelled out, a traceback is indented.

    Other values are quoted by the renderers.
    """
    event["event"] = _spelled_out(str(event["event"]))
    if "exception" in event:
        event["exception"] = "\n".join(f"  {_spelled_out(line)}" for line in str(event["exception"]).split("\n"))
    return event


def tell_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the time on a line: UTC, ISO 8601, microseconds. The listener writes thousands of lines a second."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    event["timestamp"] = f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"
    return event


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_JSON = json.JSONEncoder(default=repr)


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Return a line as JSON; structlog's own renderer makes an encoder for each."""
    return _JSON.encode(event)


def _spelled_out(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


limit = LineLimit(time.monotonic)
"""What one peer makes us say in a minute."""


def tell_withheld(*, at_the_end: bool = False) -> None:
    """Say how many lines were withheld, a minute after it began; to be called now and then, and at the end."""
    for event, address, count in limit.withheld(at_the_end=at_the_end):
        get_logger(__name__).warning("lines_withheld", of=event, peer_address=address, count=count)


def speak_of(**facts: Any) -> None:
    """Put facts on every line that this thread writes from now on."""
    structlog.contextvars.bind_contextvars(**facts)


class SteadyStderr:
    """Standard error that never fails its writer: a full disk or a closed pipe behind it must not stop a service."""

    def write(self, text: str) -> int:
        """Write as much as can be written."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logs(service: str, log_format: Literal["auto", "console", "json"] = "auto") -> None:
    """Set up this process's log on standard error.

    Parameters
    ----------
    service
        Name of the service, on every line.
    log_format
        `console` for people, `json` for machines, `auto`: console on a terminal, else JSON.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else render_json

    def name_the_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service  # context variables would not reach threads
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        limit,
        name_the_service,
        structlog.stdlib.add_log_level,
        tell_time,
        drop_patient_data,
        structlog.processors.format_exc_info,
        tame,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(SteadyStderr()),  # type: ignore[arg-type]  # all it needs
        cache_logger_on_first_use=False,
    )
    # What libraries log through the standard library joins the same stream in the same form.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)  # through the same handler: a warning is one line too
    warnings.formatwarning = _category_and_place
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # it tells each of its warnings a second time


def _category_and_place(
    message: Warning | str,  # noqa: ARG001 - pydicom's quote values, of patients too
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,  # noqa: ARG001
) -> str:
    return f"{category.__name__} at {Path(filename).name}:{lineno}"


def get_logger(name: str) -> Any:
    """Return a logger; `name` is the module that speaks."""
    return structlog.get_logger(module=name)


def where(error: BaseException) -> str:
    """Return the type of an error and the line it comes from; its words may quote values, of patients too."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
