"""What the system refuses is said in a line, without a traceback."""

import pytest
import typer

from worker.commands.model_common import explained


def test_what_the_system_refuses_is_said_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, explained():
        raise PermissionError(13, "Permission denied", "/films/labels.csv")
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err == "/films/labels.csv: Permission denied\n"


def test_a_full_disk_is_said_though_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, explained():
        raise OSError(28, "No space left on device")
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err == "No space left on device\n"


def test_a_reader_who_has_enough_is_no_error() -> None:
    with pytest.raises(BrokenPipeError), explained():
        raise BrokenPipeError(32, "Broken pipe")
