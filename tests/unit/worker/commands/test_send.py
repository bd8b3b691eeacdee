"""`firstread send` against a real Storage SCP: what arrives, what is said of what does not, the exit status."""

import contextlib
import gc
import json
import logging
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from pydicom import dcmread
from typer.testing import CliRunner

from worker.commands.send import files_under, send, status_text
from worker.demo.phantoms import generate
from worker.demo.stand_in_pacs import StandInPacs

app = typer.Typer()
app.command()(send)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """The command sets up the log of its process; here that is ours."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("pynetdicom").setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small DX film."""
    return next(generate(tmp_path_factory.mktemp("phantom"), film_pixels=64, ct_pixels=64)).path


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandInPacs]:
    with StandInPacs(tmp_path / "pacs") as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path, film: Path) -> Path:
    """Two folders deep: two films of any name."""
    deep = tmp_path / "scans" / "a" / "b"
    deep.mkdir(parents=True)
    shutil.copy(film, deep / "IM0001")
    other = dcmread(film)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "2.25.17"
    other.save_as(tmp_path / "scans" / "b.dcm")
    return tmp_path / "scans"


def test_a_folder_is_sent_with_all_below_it(folder: Path, pacs: StandInPacs, film: Path) -> None:
    done = CliRunner().invoke(app, [str(folder), "--to", str(pacs.peer), "--json"])
    assert done.exit_code == 0, done.output
    listed = json.loads(done.stdout)
    assert [Path(entry["file"]).relative_to(folder) for entry in listed] == [Path("a/b/IM0001"), Path("b.dcm")]
    assert [(entry["status"], entry["error"]) for entry in listed] == [("0x0000", None)] * 2
    assert listed[1]["sop_instance_uid"] == "2.25.17"
    assert {dcmread(path) == dcmread(film) for path in pacs.received()} == {True, False}
    assert len(pacs.received()) == 2


def test_a_bad_file_is_named_and_the_others_go(folder: Path, pacs: StandInPacs) -> None:
    (folder / "notes.txt").write_text("not DICOM")
    done = CliRunner().invoke(app, [str(folder), "--to", str(pacs.peer), "--json"])
    assert done.exit_code == 1
    by_name = {Path(entry["file"]).name: entry for entry in json.loads(done.stdout)}
    assert by_name["notes.txt"]["status"] is None
    assert by_name["notes.txt"]["error"] == "no DICOM object: it says no SOP Class and SOP Instance UID"
    assert by_name["b.dcm"]["status"] == by_name["IM0001"]["status"] == "0x0000"


def test_the_table_says_how_many_were_stored(folder: Path, pacs: StandInPacs) -> None:
    done = CliRunner().invoke(app, [str(folder), "--to", str(pacs.peer)])
    assert done.exit_code == 0
    assert f"2 of 2 stored by {pacs.peer}" in done.stdout
    assert "0x0000" in done.stdout


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves the socket open
def test_nobody_there_is_a_failure_for_every_file(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    done = CliRunner().invoke(app, [str(folder), "--to", f"PACS@127.0.0.1:{port}", "--json"])
    assert done.exit_code == 1
    assert all(entry["status"] is None and entry["error"] for entry in json.loads(done.stdout))
    gc.collect()  # here, and not in the next test


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves the socket open
def test_nobody_there_is_said_once(folder: Path) -> None:
    (folder / "notes.txt").write_text("not DICOM")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        peer = f"PACS@127.0.0.1:{probe.getsockname()[1]}"
    done = CliRunner().invoke(app, [str(folder), "--to", peer])
    assert done.exit_code == 1
    assert f"0 of 3 stored by {peer}" in done.stdout
    assert "b.dcm" not in done.stdout
    assert done.stderr.count("2 files not sent") == done.stderr.count(peer) == 1
    assert "notes.txt" in done.stdout
    assert "no DICOM object" in done.stdout
    assert "not sent: not sent" not in done.output
    gc.collect()  # here, and not in the next test


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A peer that answers the association request with these bytes and hangs up; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"PACS@127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves the socket open
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["hangs up", "no DICOM"])
def test_what_went_wrong_is_said_in_our_words_alone(answer: bytes, film: Path) -> None:
    with answering(answer) as peer:
        done = CliRunner().invoke(app, [str(film), "--to", peer])
    assert done.exit_code == 1
    assert "no answer to the association request" in done.stdout
    assert done.stderr.strip() == ""  # no line of the library's
    gc.collect()  # here, and not in the next test


@pytest.mark.parametrize(
    "arguments",
    [
        ["FOLDER", "--to", "PACS"],
        ["FOLDER", "--to", "PACS@host:0"],
        ["FOLDER", "--to", "PACS@127.0.0.1:11112", "--calling", "SEVENTEENLETTERSX"],
        ["missing", "--to", "PACS@127.0.0.1:11112"],
        ["EMPTY", "--to", "PACS@127.0.0.1:11112"],
        ["FOLDER"],
    ],
)
def test_bad_usage_is_2(arguments: list[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = {"FOLDER": str(folder), "EMPTY": str(tmp_path / "empty")}
    done = CliRunner().invoke(app, [places.get(argument, argument) for argument in arguments])
    assert done.exit_code == 2, done.output


def test_files_are_found_in_the_order_of_their_names(folder: Path) -> None:
    single = folder / "b.dcm"
    assert list(files_under([single, folder])) == [single, folder / "a" / "b" / "IM0001", single]


def test_a_status_is_written_in_hexadecimal() -> None:
    assert [status_text(value) for value in (0, 0xA700, None)] == ["0x0000", "0xA700", "not sent"]
