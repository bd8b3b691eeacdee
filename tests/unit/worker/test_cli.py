"""The command line: a command is imported when it is run, and no other is."""

import subprocess
import sys

import pytest
import typer.main

from worker.cli import COMMANDS, app

COUNTED = """
import sys
from worker.cli import main
sys.argv = ["firstread", *sys.argv[1:]]
try:
    main()
except SystemExit:
    print(*(name for name in ("fastapi", "worker.pipeline", "worker.commands.accounts") if name in sys.modules))
"""


@pytest.mark.parametrize("command", ["listener", "reconcile"])
def test_a_command_does_not_bring_the_others_with_it(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"{command} [OPTIONS]" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


def test_each_goes_by_its_name() -> None:
    root = typer.main.get_command(app)
    assert list(root.commands) == list(COMMANDS)  # type: ignore[attr-defined]
    assert [command.name for command in root.commands.values()] == list(COMMANDS)  # type: ignore[attr-defined]
