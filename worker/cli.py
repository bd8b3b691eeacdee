"""`firstread …`: the command line. Exit 0: done; 1: a finding or a failure; 2: bad usage or settings."""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup
from typer.main import get_group

from models.errors import ModelError
from worker.commands.output import complain, say
from worker.errors import FirstreadError, SettingsError

COMMANDS = {
    # run
    "up": "up:up",
    "demo": "up:demo",
    "listener": "services:listener",
    "intake": "services:intake",
    "worker": "services:worker",
    "worklist": "services:worklist",
    "migrate": "services:migrate",
    # see
    "studies": "results:studies",
    "show": "results:show",
    "reconcile": "results:reconcile",
    "commitments": "commitments:commitments",
    "route": "operations:route",
    # operate
    "send": "send:send",
    "reprocess": "operations:reprocess",
    "resend": "operations:resend",
    "check": "operations:check",
    "config": "configuration:config",
    # keep safe
    "backup": "safety:backup",
    "restore": "safety:restore",
    "retention": "safety:retention",
    "acknowledge": "operations:acknowledge",
    # with commands of their own
    "quarantine": "operations:quarantine",
    "audit": "audit:app",
    "users": "accounts:users",
    "tokens": "accounts:tokens",
    "models": "models:app",
    "bench": "bench:app",
}
"""Name of a command: the module of `worker.commands` that holds it, and what it is called there."""


class _Loaded(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for.

    A listener has no use for the web framework of the accounts, and every process of a site begins here: to import all
    commands costs half as much processor time again as to import the one that is run.
    """

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(import_module(f"worker.commands.{module}"), attribute)
        holder = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
        return get_group(holder).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    """The group of all commands, in the order above."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loaded()  # type: ignore[assignment]  # nothing is added to it


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="The first read of every chest scan: DICOM in, triaged Structured Reports out. Not for diagnosis.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"firstread {version('firstread')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command; each acts by its callback."""


def main() -> None:
    """Run the command line; what is raised on purpose becomes one message and an exit status."""
    try:
        app()
    except SettingsError as error:
        complain(f"firstread: {error}")
        sys.exit(2)
    except (FirstreadError, ModelError) as error:
        complain(f"firstread: {error}")
        sys.exit(1)
    except SQLAlchemyError as error:
        first = str(error).splitlines()[0]
        complain(f"firstread: the database does not answer: {first}\nTry `firstread check`.")
        sys.exit(1)


if __name__ == "__main__":
    main()
