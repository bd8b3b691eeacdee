"""Our cookies: unreadable to scripts, sent to us alone, and only over https where we are reached that way."""

from typing import Literal

from fastapi import Request, Response


class Cookie:
    """A cookie of ours.

    Over https its name begins with `__Host-`: then only this host itself can have set it, over https, for all its
    paths. Over http the port is in the name: cookies know no ports, and two worklists of one machine must not log each
    other out.

    Parameters
    ----------
    word
        What it is for.
    same_site
        `strict`: not sent by a browser that comes from another site, not even by a link.
    """

    def __init__(self, word: str, same_site: Literal["lax", "strict"]) -> None:
        self._word = word
        self._same_site = same_site

    def read(self, request: Request) -> str:
        """Return its value; empty where there is none."""
        return request.cookies.get(self._name(request), "")

    def put(self, request: Request, response: Response, value: str, *, seconds: int | None = None) -> None:
        """Set it; without `seconds` it goes when the browser is closed."""
        response.set_cookie(
            self._name(request),
            value,
            max_age=seconds,
            secure=is_https(request),
            httponly=True,
            samesite=self._same_site,
        )

    def clear(self, request: Request, response: Response) -> None:
        """Have the browser forget it."""
        response.delete_cookie(self._name(request), secure=is_https(request), httponly=True, samesite=self._same_site)

    def _name(self, request: Request) -> str:
        if is_https(request):
            return f"__Host-firstread-{self._word}"
        return f"firstread-{self._word}-{request.url.port or 80}"


def is_https(request: Request) -> bool:
    """Say whether we are reached over https, as we ourselves see it or a trusted proxy says."""
    return request.url.scheme == "https"
