"""Settings of the audit trail."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from worker.config.values import check_scheme

SYSLOG_SCHEMES = ("udp", "tcp", "tls")


class AuditSettings(BaseModel):
    """Where audit messages go, and by what the receiver is known."""

    audit_syslog: str = Field(
        "", description="syslog receiver of DICOM audit messages: udp://, tcp:// or tls://HOST:PORT"
    )
    audit_syslog_ca: Path | None = Field(None, description="PEM certificates that a tls:// receiver is checked against")
    audit_syslog_certificate: Path | None = Field(None, description="our PEM certificate, where it asks for one")
    audit_syslog_key: Path | None = Field(None, description="its PEM key")

    @field_validator("audit_syslog", mode="after")
    @classmethod
    def _is_syslog_url(cls, value: str) -> str:
        if not value:
            return value
        check_scheme(value, SYSLOG_SCHEMES)
        try:
            parts = urlsplit(value)
            host, _port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{error}; say for example tls://192.0.2.20:6514") from None
        if not host or parts.path not in {"", "/"} or parts.query or parts.username is not None:
            raise ValueError("it is no SCHEME://HOST:PORT; say for example tls://192.0.2.20:6514")
        return value

    @field_validator("audit_syslog_ca", "audit_syslog_certificate", "audit_syslog_key", mode="after")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.expanduser().is_file():
            raise ValueError("there is no such file")
        return value and value.expanduser().absolute()

    @field_validator("audit_syslog_key", mode="after")
    @classmethod
    def _goes_with_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (info.data.get("audit_syslog_certificate") is None) != (value is None):
            raise ValueError("FIRSTREAD_AUDIT_SYSLOG_CERTIFICATE and _KEY go together: set both or none")
        return value
