"""Serving the worklist: one address, one line that says where, a file that says it to machines."""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from worker.files import make_private
from worker.logs import get_logger

log = get_logger(__name__)


def serve(app: FastAPI, host: str, port: int, *, run_dir: Path | None = None) -> None:
    """Serve the worklist until SIGTERM or SIGINT; requests under way are finished.

    Prints `worklist http://HOST:PORT/` when the port is open, and writes `worklist.json` (`pid`, `url`) into `run_dir`
    while it serves.

    Parameters
    ----------
    app
        What `create_app` made.
    host
        Address to bind.
    port
        Port to bind; 0 for a free one.
    run_dir
        Where `worklist.json` goes; None for nowhere.

    Raises
    ------
    SystemExit
        With status 1, and the reason on standard error, when the address cannot be bound.
    """
    listening = _bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    # No access log: a search is a GET query and holds patient data. Proxies are the application's affair: uvicorn would
    # believe any on this machine.
    config = uvicorn.Config(
        app, access_log=False, log_config=None, server_header=False, timeout_graceful_shutdown=5, proxy_headers=False
    )
    if threading.current_thread() is threading.main_thread():
        # uvicorn drains at SIGTERM and then raises it again for whoever listened before: a clean end is exit 0.
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, lambda *_: None)
    run_file = _write_run_file(run_dir, url) if run_dir is not None else None
    try:
        print(f"worklist {url}", flush=True)
        log.info("worklist_serving", url=url)
        uvicorn.Server(config).run(sockets=[listening])
        log.info("worklist_stopped", url=url)
    finally:
        listening.close()
        if run_file is not None:
            run_file.unlink(missing_ok=True)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        sys.exit(
            f"the worklist cannot listen on {host}:{port}: {error.strerror or error}. Set FIRSTREAD_WEB_HOST to an "
            "address of this machine and FIRSTREAD_WEB_PORT to a free port, or to 0 for any free one."
        )
    return listening


def _write_run_file(run_dir: Path, url: str) -> Path:
    path, part = make_private(run_dir) / "worklist.json", run_dir / f"worklist.json.{os.getpid()}.part"
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"pid": os.getpid(), "url": url}, file)
    part.replace(path)
    return path
