"""A certificate authority of the test's own, and what it issues, as files for both sides of TLS."""

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import trustme

from worker.config import Credentials


class Authority:
    """A CA; `issue` writes a certificate and its key, readable by nobody else, and returns their paths."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.trust = trustme.CA()
        self.ca = directory / f"{name}.pem"
        self.trust.cert_pem.write_to_path(str(self.ca))

    def issue(self, name: str, *, host: str = "127.0.0.1", **more: Any) -> Credentials:
        """A certificate with the common name, for the host."""
        issued = self.trust.issue_cert(host, common_name=name, **more)
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        key.chmod(0o600)
        return Credentials(certificate=certificate, key=key, ca=self.ca)

    def expired(self, name: str) -> Credentials:
        """A certificate that ended yesterday."""
        now = dt.datetime.now(dt.UTC)
        return self.issue(name, not_before=now - dt.timedelta(days=10), not_after=now - dt.timedelta(days=1))


def settings(credentials: Credentials) -> dict[str, object]:
    """Return the settings that stand for these files."""
    return {"tls_certificate": credentials.certificate, "tls_key": credentials.key, "tls_ca": credentials.ca}


def client(credentials: Credentials, *, show: bool = True) -> ssl.SSLContext:
    """Return the context of a client that nobody here wrote: Python's own defaults."""
    context = ssl.create_default_context(cafile=credentials.ca)
    if show:
        assert credentials.certificate
        context.load_cert_chain(credentials.certificate, credentials.key)
    return context


def dcmtk(credentials: Credentials) -> list[str]:
    """Return dcmtk's options for these files."""
    return ["+tls", str(credentials.key), str(credentials.certificate), "+cf", str(credentials.ca)]
