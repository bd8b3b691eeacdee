"""Forms that change something: small, and sent from our own pages (against cross-site request forgery)."""

import hmac
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, HTTPException, Request
from starlette import status

MOST_BYTES = 16 << 10
FORGED = (
    "This form was not sent from our page, or that page is too old. Go back, reload it and try again; your browser has "
    "to keep cookies of this site."
)


async def form_fields(request: Request) -> dict[str, str]:
    """Read a form of a request that comes from our own site; of each field the last value.

    Raises
    ------
    HTTPException
        403 where another site sent it, 413 where it is too long, 415 where it is no form.
    """
    if not comes_from_here(request):
        raise HTTPException(status.HTTP_403_FORBIDDEN, FORGED)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "This is no form.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, "This form is too long.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10))
    except ValueError:  # not UTF-8, too many fields
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "This form cannot be read.") from None


Fields = Annotated[dict[str, str], Depends(form_fields)]


def comes_from_here(request: Request) -> bool:
    """Say whether a browser says that a request comes from our own pages; what says nothing may go on to the token.

    `Sec-Fetch-Site` cannot be forged by a page. It is absent over http beyond loopback, and there `Origin` decides;
    that is `null` where a page of ours sends no referrer.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "null")
    return origin == "null" or urlsplit(origin)[:2] == (request.url.scheme, request.url.netloc)


def require_token(fields: dict[str, str], expected: str) -> None:
    """Refuse a form that does not bring back what our page put into it.

    Raises
    ------
    HTTPException
        403.
    """
    given = fields.get("form_token", "")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(status.HTTP_403_FORBIDDEN, FORGED)
