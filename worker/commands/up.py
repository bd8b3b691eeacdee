"""`firstread up` and `firstread demo`: every service on this machine."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from worker import bootstrap, front_door
from worker.check import ANYBODY, check_addresses
from worker.commands.output import err, out, print_json
from worker.commands.send import files_under
from worker.config import Settings, is_loopback, load_settings, made_data_dir, unknown_names
from worker.errors import FirstreadError, SettingsError, StartError
from worker.logs import configure_logs, get_logger, where
from worker.supervision.addresses import Addresses
from worker.supervision.processes import Terminal, on_stop_signals
from worker.supervision.supervisor import Supervisor
from worker.supervision.told import Told
from worker.tls import server_context

log = get_logger(__name__)


def up(
    echo: Annotated[
        bool, typer.Option("--echo", help="Show the lines of every log here too (standard error).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as JSON once ready.")] = False,
    patience: Annotated[float, typer.Option(help="Seconds until it says that something is not ready.")] = 90.0,
) -> None:
    """Run every service on this machine, supervised; Ctrl-C or SIGTERM drains and stops."""
    settings = load_settings()
    configure_logs("up", settings.log_format)
    made_data_dir(settings)
    for address in check_addresses(settings):
        if not address.ok:
            raise SettingsError(f"{address.name}={address.found}; {address.fix}")
    if settings.tls_certificate is not None:
        server_context(settings.credentials, verify_peer=settings.tls_verify_peer)  # raises here, not in a log
    if unknown := unknown_names():
        log.warning("unknown_settings", names=unknown, todo="`firstread config` lists those there are")
    services = bootstrap.planned_services(settings)
    supervisor = Supervisor(settings, services=services, echo=sys.stderr if echo else None)
    stop = Told()
    _until_told(supervisor, stop)
    supervisor.start()
    starter = threading.Thread(target=_say_when_ready, args=(supervisor, settings, as_json, patience, stop))
    starter.start()
    while supervisor.alive() and not stop.wait(0.5):
        pass
    stop.set()
    supervisor.stop()
    starter.join()
    if supervisor.failure is not None:
        raise StartError(f"the supervisor gave up: {supervisor.failure}") from supervisor.failure


def demo(
    scans: Annotated[
        Path | None, typer.Option(exists=True, file_okay=True, help="Push these DICOM files instead of the phantoms.")
    ] = None,
    exit_when_done: Annotated[bool, typer.Option("--exit", help="End when every result is there.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it gives up.")] = 120.0,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to keep everything (an empty or new directory); default: a new one.")
    ] = None,
) -> None:
    """Start everything with a data directory of its own, push example scans through it, show what comes out."""
    from worker.demo.run import Demonstration, run

    files = None if scans is None else list(files_under([scans]))
    if files == []:
        raise typer.BadParameter(f"{scans}: there is no file in it", param_hint="--scans")
    plan = Demonstration(
        scans=files, stay=out.is_terminal and not exit_when_done, seconds=timeout, data_dir=data_dir, console=out
    )
    raise typer.Exit(run(plan))


def _until_told(supervisor: Supervisor, stop: Told) -> None:
    """Drain at the first signal, at the second stop waiting for anything; SIGHUP but for a lost terminal: reload."""
    terminal = Terminal()

    def told(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not terminal.lost():
            supervisor.reload()
            return
        if stop.is_set():
            supervisor.hurry()
            return
        log.info("draining", signal=signal.Signals(number).name, todo="once more to kill what is slow")
        stop.set()

    on_stop_signals(told)


def _say_when_ready(supervisor: Supervisor, settings: Settings, as_json: bool, patience: float, stop: Told) -> None:
    while not stop.is_set():
        try:
            addresses = supervisor.wait_ready(patience)
        except StartError as error:
            if not stop.is_set() and supervisor.alive():
                err.print(f"firstread: {error}; still trying", style="yellow", markup=False)
            continue
        link = _login_link(settings, addresses) if as_json or out.is_terminal else None
        if as_json:
            print_json(_as_document(addresses, supervisor, settings) | {"login_link": link})
        else:
            _say_hello(addresses, supervisor, settings, link)
        return


def _login_link(settings: Settings, addresses: Addresses) -> str | None:
    """Make the link for whoever started us: for a terminal or a caller that asked for JSON, never for a log."""
    if not front_door.for_this_machine_alone(settings):
        return None
    database = bootstrap.open_database(settings)
    try:
        return front_door.login_link(settings, database, actor="up", worklist_url=addresses.worklist_url)
    except (SQLAlchemyError, FirstreadError) as error:
        log.warning("no_login_link", error=where(error), todo="`firstread users link` makes one later")
        return None
    finally:
        database.dispose()


def _as_document(addresses: Addresses, supervisor: Supervisor, settings: Settings) -> dict[str, object]:
    return {
        "worklist": addresses.worklist_url,
        "listener": str(addresses.listener),
        "data_dir": str(supervisor.data_dir),
        "logs": str(supervisor.logs_dir),
        "pacs": [str(peer) for peer in settings.pacs],
    }


def _say_hello(addresses: Addresses, supervisor: Supervisor, settings: Settings, link: str | None) -> None:
    listener = addresses.listener
    secure = "+tls KEY CERTIFICATE +cf CA " if listener.tls else ""
    nowhere = f"nowhere: set FIRSTREAD_PACS; they stay in {settings.reports_dir}"
    lines = (
        ("worklist", addresses.worklist_url),
        ("log in", _way_in(settings, link)),
        ("send scans to", str(listener)),
        ("for example", f"firstread send FILE_OR_FOLDER --to {listener}"),
        ("or", f"storescu {secure}-aec {listener.ae_title} {listener.host} {listener.port} FILE"),
        *([("callers", ANYBODY)] if not settings.callers and not is_loopback(settings.dicom_host) else []),
        ("reports go to", ", ".join(str(peer) for peer in settings.pacs) or nowhere),
        ("data", str(supervisor.data_dir)),
        ("logs", str(supervisor.logs_dir)),
    )
    out.print("firstread is up. AI triage aid - not for diagnosis.", style="bold")
    for name, value in lines:
        out.print(f"  {name:<14} {value}", markup=False, soft_wrap=True)
    out.print("Ctrl-C drains and stops.")


def _way_in(settings: Settings, link: str | None) -> str:
    if link is not None:
        return f"{link} (once, within 15 minutes; then `firstread users link`)"
    if front_door.for_this_machine_alone(settings):
        return "`firstread users link` prints a link that works once; `firstread users add` makes an account"
    return "with an account: `firstread users add NAME --role radiologist`"
