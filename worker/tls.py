"""TLS for DICOM: contexts after the BCP 195 profile, our certificate judged, failures in words.

The profile is PS3.15 B.12, "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile" (B.9 to B.11 are retired):
TLS 1.2 at least, 1.3 where both can; of TLS 1.2 the four suites that RFC 9325 4.2 recommends; certificates with RSA
keys of 2048 bits or EC keys of 224 bits at least, signed with SHA-2 (OpenSSL's security level 2 demands it).
"""

import contextlib
import datetime as dt
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from worker.config import Credentials
from worker.errors import SettingsError

SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""What is negotiated in TLS 1.2, in OpenSSL's names (RFC 9325 4.2)."""

WARN_DAYS = 30
"""A certificate that ends within so many days is warned of."""


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """What our certificate says of us: its subject (RFC 4514), and when it ends."""

    subject: str
    not_after: dt.datetime

    @property
    def days_left(self) -> int:
        """Whole days until it ends."""
        return (self.not_after - dt.datetime.now(dt.UTC)).days


def server_context(credentials: Credentials, *, verify_peer: bool) -> ssl.SSLContext:
    """Return the context of a server.

    Parameters
    ----------
    credentials
        Our certificate and key; the CA of the callers where they are verified.
    verify_peer
        Whether a caller has to show a certificate; else it is not asked for one.

    Raises
    ------
    SettingsError
        A file is missing, damaged, readable by others, or the certificate does not do.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, credentials)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # each association is authenticated afresh; and some peers stumble over a ticket
    context.verify_mode = ssl.CERT_REQUIRED if verify_peer else ssl.CERT_NONE
    return context


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the context of a client: it verifies the server and its host name, and shows our certificate.

    Raises
    ------
    SettingsError
        As `server_context`; or no CA is set.
    """
    if credentials.ca is None:
        raise SettingsError(
            "FIRSTREAD_TLS_CA is not set: name the PEM file of the CA that signed the peer's certificate"
        )
    return _context(ssl.PROTOCOL_TLS_CLIENT, credentials)


def inspect(credentials: Credentials) -> OwnCertificate:
    """Judge our certificate and key.

    Raises
    ------
    SettingsError
        A file is missing, damaged or readable by others; the certificate has ended, has not begun, or has another key.
    """
    if credentials.certificate is None or credentials.key is None:
        raise SettingsError("FIRSTREAD_TLS_CERTIFICATE and FIRSTREAD_TLS_KEY are not set")
    where = f"FIRSTREAD_TLS_CERTIFICATE={credentials.certificate}"
    try:
        certificate = x509.load_pem_x509_certificates(_read("FIRSTREAD_TLS_CERTIFICATE", credentials.certificate))[0]
    except ValueError as error:
        raise SettingsError(f"{where}: it holds no certificate in PEM form ({error})") from None
    key = _private_key(credentials.key)
    if certificate.public_key() != key.public_key():
        raise SettingsError(f"{where}: it does not belong to the key in FIRSTREAD_TLS_KEY={credentials.key}")
    now = dt.datetime.now(dt.UTC)
    if now < certificate.not_valid_before_utc:
        raise SettingsError(
            f"{where}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; is the clock right?"
        )
    if now > certificate.not_valid_after_utc:
        raise SettingsError(f"{where}: expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it")
    return OwnCertificate(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)


def names_of(certificate: bytes) -> tuple[str, ...]:
    """Return the names of a certificate (DER): its subject (RFC 4514), then its alternative names.

    Raises
    ------
    ValueError
        It cannot be read.
    """
    parsed = x509.load_der_x509_certificate(certificate)
    try:
        alternative = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (parsed.subject.rfc4514_string(),)
    kinds = ((x509.DNSName, "DNS"), (x509.IPAddress, "IP"), (x509.UniformResourceIdentifier, "URI"))
    named = [f"{word}:{value}" for kind, word in kinds for value in alternative.get_values_for_type(kind)]
    return (parsed.subject.rfc4514_string(), *named)


def say_goodbye(connection: object) -> None:
    """Send close_notify (RFC 8446 6.1) on a connection that is about to be closed, if it is one of TLS; never waits."""
    if isinstance(connection, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):  # gone already, no room, or no answer yet: it is closed anyway
            connection.settimeout(0)
            connection.unwrap()


def _context(protocol: int, credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES) + ":@SECLEVEL=2")
    context.options |= ssl.OP_NO_COMPRESSION
    if credentials.certificate is not None and credentials.key is not None:
        inspect(credentials)
        try:
            context.load_cert_chain(credentials.certificate, credentials.key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"FIRSTREAD_TLS_CERTIFICATE={credentials.certificate}: {_said(error)}; it needs an RSA key of 2048 "
                "bits or an EC key of 224 bits at least, and a signature with SHA-2"
            ) from None
    if credentials.ca is not None:
        _read("FIRSTREAD_TLS_CA", credentials.ca)
        try:
            context.load_verify_locations(credentials.ca)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"FIRSTREAD_TLS_CA={credentials.ca}: it holds no certificate in PEM form ({_said(error)})"
            ) from None
    return context


def _private_key(path: Path) -> PrivateKeyTypes:
    name = f"FIRSTREAD_TLS_KEY={path}"
    encoded = _read("FIRSTREAD_TLS_KEY", path)
    status = path.stat()
    # As PostgreSQL has it: a key of root's may be lent to a group, one of ours is ours alone.
    shared = stat.S_IMODE(status.st_mode) & (0o037 if status.st_uid == 0 and os.geteuid() != 0 else 0o077)
    if shared:
        raise SettingsError(
            f"{name}: others may read it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600, or 640 where it is "
            "root's and our group may read it; if others may have read it, make another key"
        )
    try:
        return serialization.load_pem_private_key(encoded, password=None)
    except TypeError:
        raise SettingsError(f"{name}: it is encrypted; decrypt it (openssl pkey), file mode 600 protects it") from None
    except ValueError:
        raise SettingsError(f"{name}: it holds no private key in PEM form") from None


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name}={path}: it cannot be read ({error.strerror})") from None


def _said(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return str(reason).lower().replace("_", " ")
