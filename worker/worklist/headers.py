"""What every answer carries: the security headers, and the files that may be kept."""

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
DOCS_POLICY = f"{_POLICY}; img-src 'self' data:"
"""Swagger UI draws its icons from data URLs, our own pages do not. The styles that its script sets are set property by
property, which no policy forbids; no page needs `unsafe-inline`."""
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for what does not know frame-ancestors
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), display-capture=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # patient data stays out of the browser's disk cache
}
_HTTPS_FOR = "max-age=31536000"
"""A browser that was here over https comes over https for a year (RFC 6797)."""


class SecureHeaders:
    """Puts the security headers on every answer that does not bring its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and the headers back with its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", _HTTPS_FOR)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class StaticFilesWithCache(StaticFiles):
    """Our own files, which hold no patient data: kept by the browser, asked about again."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Serve a file that may be kept."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.setdefault("cache-control", "no-cache")
        return response
