"""`firstread …`: the command line. Exit 0: done; 1: a finding or a failure; 2: bad usage or settings."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from models.errors import ModelError
from worker.commands import (
    accounts,
    audit,
    bench,
    commitments,
    configuration,
    models,
    operations,
    results,
    safety,
    send,
    services,
    up,
)
from worker.commands.output import complain, say
from worker.errors import FirstreadError, SettingsError

app = typer.Typer(
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


RUN, SEE, OPS, SAFE = "Run", "See", "Operate", "Keep safe"
for panel, commands in {
    RUN: (up.up, up.demo, services.listener, services.intake, services.worker, services.worklist, services.migrate),
    SEE: (results.studies, results.show, results.reconcile, commitments.commitments, operations.route),
    OPS: (send.send, operations.reprocess, operations.resend, operations.check, configuration.config),
    SAFE: (safety.backup, safety.restore, safety.retention, operations.acknowledge),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(operations.quarantine, name="quarantine", rich_help_panel=OPS)
app.add_typer(audit.app, name="audit", rich_help_panel=OPS)
app.add_typer(accounts.users, name="users", rich_help_panel=OPS)
app.add_typer(accounts.tokens, name="tokens", rich_help_panel=OPS)
app.add_typer(models.app, name="models", rich_help_panel="Models")
app.add_typer(bench.app, name="bench", rich_help_panel=OPS)


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
