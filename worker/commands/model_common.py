"""What the `models` commands share: settings, errors in words, lines, progress bars."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.engines.choice import choose
from models.errors import ModelError, NotInstalledError, RecipeError
from models.registry import Package
from worker import bootstrap
from worker.commands.model_views import change_lines
from worker.commands.output import complain, err, say
from worker.config import Settings, load_settings
from worker.errors import FirstreadError, SettingsError
from worker.logs import configure_logs

if TYPE_CHECKING:
    from models.classifier import Classifier

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]
Threads = Annotated[int, typer.Option("--threads", min=1, max=256, help="CPU threads.")]
Data = Annotated[
    Path,
    typer.Option(
        "--data", help="The films: a labels.csv, CoronaHack's table, a folder per class, or names in _0 and _1."
    ),
]


def model_settings() -> Settings:
    """Read the settings, and send this process's log to standard error: standard output carries results alone."""
    settings = load_settings()
    configure_logs("models", settings.log_format)
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # not its remarks about single values
    return settings


@contextmanager
def explained() -> Iterator[None]:
    """Turn an expected error into words on standard error and an exit code: 2 for bad usage or settings, else 1."""
    try:
        yield
    except (SettingsError, NotInstalledError, RecipeError) as error:
        complain(str(error))
        raise typer.Exit(2) from None
    except (FirstreadError, ModelError) as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except BrokenPipeError:
        raise  # whoever read the output has enough of it, which is no error
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
        complain(f"{where}{error.strerror or error}".encode("utf-8", "backslashreplace").decode("utf-8"))
        raise typer.Exit(1) from None


def load_classifier(package: Package, settings: Settings) -> "Classifier":
    """Load a package on the engine, and in the precision, in which a worker computes it.

    Raises
    ------
    ModelError
        If it cannot be loaded.
    """
    from models.classifier import Classifier

    choice = choose(package, settings.engine, settings.precision)
    if choice.refused:
        complain(f"{package.identifier} is computed in float32: {choice.refused}")
    return Classifier.load(package, engine=choice.engine, threads=settings.engine_threads)


def bar(stack: ExitStack, what: str) -> Callable[[int, int], None]:
    """Show progress on standard error, where that is a terminal."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    stack.enter_context(progress)
    task = progress.add_task(what, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def say_changes(settings: Settings, package: Package) -> None:
    """Say what the installation of a package changes about where films go."""
    installed = bootstrap.model_registry(settings).packages()
    for line in change_lines(package, installed, bootstrap.model_router(settings).routes):
        say(line)
