"""A real OpenID Connect provider in a process of its own, and the people whom it knows."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.stack import free_port

PEOPLE = (
    {"sub": "grace", "preferred_username": "Grace", "groups": ["x", "readers"]},
    {"sub": "nobody", "groups": ["kitchen"]},
    {"sub": "root", "realm_access": {"roles": ["pacs-admins", "readers"]}},
    {"sub": "ada", "preferred_username": "ada", "groups": "readers"},
)


@contextmanager
def login_provider() -> Iterator[str]:
    """Run the provider while the block runs; give its issuer."""
    port = free_port()
    claims = [part for person in PEOPLE for part in ("--user-claims", json.dumps(person))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *claims]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            issuer = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while not _answers(issuer):
                assert process.poll() is None, "the provider ended as it started"
                assert time.monotonic() < deadline, "the provider did not start"
                time.sleep(0.1)
            yield issuer
        finally:
            process.terminate()
            process.wait(10)


def _answers(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration").status_code == 200
    except httpx.HTTPError:
        return False


def agree(address: str, sub: str) -> str:
    """Agree at the provider as one of its people; return the address that it sends the browser back to."""
    answer = httpx.post(address, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]
