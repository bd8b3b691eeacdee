"""A real server around the worklist, and a real browser in front of it."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread, on a free port of the loopback; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started:
                assert time.monotonic() < deadline, "the server did not start"
                assert thread.is_alive(), "the server ended as it started"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive(), "the server did not stop"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the headless Chromium of this machine."""
    path = shutil.which("chromium")
    assert path, "mark the test with peer('chromium')"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, with everything it complained of and everything it asked another server for."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.address = address
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _request(self, url: str) -> None:
        self.requests.append(url)
        if not url.startswith((self.address, "data:", "blob:")):
            self.strangers.append(url)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.address + path)
        return self.page


@contextmanager
def looking(browser: Browser, address: str, **options: Any) -> Iterator[Watched]:
    """Open a fresh browser profile on an address."""
    context = browser.new_context(**({"viewport": DESKTOP, "color_scheme": "dark"} | options))
    context.set_default_timeout(15_000)
    try:
        yield Watched(context, address)
    finally:
        context.close()
