"""The settings of TLS and of who may call, as far as they depend on each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from worker.config.callers import Caller
from worker.config.values import Peer, split_commas


class TlsRules(BaseSettings):
    """Rules between settings; the settings themselves stand in `Settings`, in the order in which they are judged."""

    @field_validator("calling_aes", mode="before", check_fields=False)
    @classmethod
    def _ae_list(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("calling_aes", mode="after", check_fields=False)
    @classmethod
    def _are_callers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Caller.parse(text)
        return value

    @field_validator("tls_ca", "tls_certificate", "tls_key", mode="after", check_fields=False)
    @classmethod
    def _absolute_file(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("tls_ca", mode="after", check_fields=False)
    @classmethod
    def _destinations_are_verified(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        peers = cast("tuple[Peer, ...]", info.data.get("pacs", ()))
        if value is None and (secure := next((peer for peer in peers if peer.tls), None)):
            raise ValueError(f"{secure} is reached over TLS: name the PEM file of the CA that signed its certificate")
        return value

    @field_validator("tls_key", mode="after", check_fields=False)
    @classmethod
    def _goes_with_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_certificate" in info.data and (value is None) != (info.data["tls_certificate"] is None):
            raise ValueError("FIRSTREAD_TLS_CERTIFICATE and FIRSTREAD_TLS_KEY are set both, or neither")
        return value

    @field_validator("tls_verify_peer", mode="after", check_fields=False)
    @classmethod
    def _has_something_to_verify_by(cls, value: bool, info: ValidationInfo) -> bool:
        if value and _is_on(info.data) and info.data.get("tls_ca") is None:
            raise ValueError(
                "set FIRSTREAD_TLS_CA to the PEM file of the CA that signed the senders' certificates; false lets "
                "senders call without a certificate"
            )
        return value

    @field_validator("dicom_plain_port", mode="after", check_fields=False)
    @classmethod
    def _stands_beside_tls(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None:
            return None
        if not _is_on(info.data):
            raise ValueError("FIRSTREAD_DICOM_PORT is plain already: this is for a second port, beside one with TLS")
        if value and value == info.data.get("dicom_port"):
            raise ValueError("FIRSTREAD_DICOM_PORT is the same; say another")
        return value

    @field_validator("caller", mode="after", check_fields=False)
    @classmethod
    def _certificates_are_seen(cls, value: tuple[Caller, ...], info: ValidationInfo) -> tuple[Caller, ...]:
        seen = _is_on(info.data) and info.data.get("tls_verify_peer", True)
        if not seen and any(caller.certificate is not None for caller in value):
            raise ValueError(
                "a certificate can be asked for only where FIRSTREAD_TLS_CERTIFICATE is set and "
                "FIRSTREAD_TLS_VERIFY_PEER is true"
            )
        return value


def _is_on(data: Mapping[str, Any]) -> bool:
    return data.get("tls_certificate") is not None
