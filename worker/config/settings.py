"""Every setting: its name, default, meaning, and what is allowed."""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from worker.config.audit import AuditSettings
from worker.config.callers import Caller
from worker.config.login import LoginSettings
from worker.config.tls import TlsRules
from worker.config.values import (
    BROKER_SCHEMES,
    DATABASE_PORT,
    DATABASE_SCHEMES,
    Credentials,
    Peer,
    Route,
    check_scheme,
    checked_ae_title,
    split_commas,
)

GIB = 1 << 30


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/firstread`, else `~/.local/share/firstread`."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "firstread"


class Settings(TlsRules, AuditSettings, LoginSettings):
    """Every setting, its default and its meaning (the description is what `firstread config` and README show)."""

    model_config = SettingsConfigDict(
        env_prefix="FIRSTREAD_", extra="ignore", frozen=True, validate_default=True, env_ignore_empty=True
    )

    data_dir: Path = Field(default_factory=default_data_dir, description="where everything is kept (made 0700)")
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = Field("FIRSTREAD", description="our AE title")
    require_called_ae: bool = Field(False, description="serve only associations that call our AE title")
    calling_aes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="who may call: AE or AE@ADDRESS, comma-separated; empty: anybody, with a warning"
    )
    dicom_host: str = Field("127.0.0.1", description="address the DICOM listener binds")
    dicom_port: Annotated[int, Field(ge=0, le=65535)] = Field(11112, description="its port; 0: a free one, printed")
    max_associations: Annotated[int, Field(ge=1)] = Field(100, description="associations served at once")
    listener_processes: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="processes that serve the DICOM ports; 0: one for two cores, 1 to 4"
    )
    max_object_bytes: Annotated[ByteSize, Field(ge=1)] = Field(
        ByteSize(2 * GIB), description="largest object accepted; bytes, or for example 2GiB"
    )
    min_free_bytes: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(1 * GIB), description="free space below which we answer A700"
    )
    web_host: str = Field("127.0.0.1", description="address the worklist binds")
    web_port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="its port; 0: a free one, printed")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="each service's own metrics; 0: off")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in DATA_DIR")
    broker_url: str = Field("", description="Celery broker URL; empty: the embedded Redis that `up` starts")
    pacs: Annotated[tuple[Peer, ...], NoDecode] = Field(
        (), description="where reports go: AE@HOST:PORT, or AE@HOST:PORT/tls, comma-separated"
    )
    tls_ca: Path | None = Field(None, description="CA certificates by which senders and destinations are known (PEM)")
    tls_certificate: Path | None = Field(
        None, description="our certificate and its chain (PEM); with it DICOM_PORT speaks TLS only"
    )
    tls_key: Path | None = Field(None, description="the private key to it (PEM), readable by nobody else")
    tls_verify_peer: bool = Field(True, description="senders have to show a certificate that TLS_CA knows")
    dicom_plain_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="a second DICOM port without TLS, for senders that cannot; unset: none"
    )
    caller: tuple[Caller, ...] = Field((), description="[[caller]] tables: who may call too (firstread.toml)")
    commitment_peers: Annotated[tuple[Peer, ...], NoDecode] = Field(
        (), description="where those that ask for storage commitment get the result: AE@HOST:PORT, comma-separated"
    )
    commitment_from: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="AE titles in PACS to ask for storage commitment of our reports, or `all`; empty: none"
    )
    commitment_seconds: Annotated[float, Field(gt=0)] = Field(
        600.0, description="a destination that has not said whether it commits is asked again after so long"
    )
    models_dir: Path | None = Field(None, description="model packages beside the shipped ones")
    engine: Literal["auto", "keras", "onnx"] = Field(
        "auto", description="inference engine; auto: onnx on a CPU for packages verified with it, else keras"
    )
    precision: Literal["float32", "mixed"] = Field(
        "float32", description="mixed: Keras on a GPU multiplies in float16, where a package's card allows it"
    )
    engine_threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="threads of ONNX Runtime in each inference worker; TensorFlow has one a core"
    )
    inference_workers: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="inference workers that `up` starts; 0: one a GPU, or as engines and cores ask for"
    )
    decoders: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="decoding children of each inference worker; 0: its share of the cores, at most 8"
    )
    batch_seconds: Annotated[float, Field(ge=0)] = Field(
        1.0, description="images classified together may take so long; new ones wait for it; 0: full batches"
    )
    study_quiet_seconds: Annotated[float, Field(ge=0)] = Field(
        10.0, description="a study is reported when quiet so long"
    )
    max_attempts: Annotated[int, Field(ge=1)] = Field(3, description="attempts at work that fails by itself")
    lease_seconds: Annotated[float, Field(ge=1)] = Field(30.0, description="a silent worker's work is given away after")
    sweep_seconds: Annotated[float, Field(gt=0)] = Field(2.0, description="how often owed work is looked for")
    report_iod: Literal["comprehensive_3d", "comprehensive", "enhanced"] = Field(
        "comprehensive_3d", description="SR SOP Class offered first"
    )
    decode_seconds: Annotated[float, Field(gt=0)] = Field(60.0, description="CPU and wall seconds to decode one object")
    decode_bytes: Annotated[ByteSize, Field(ge=1 << 28)] = Field(
        ByteSize(4 * GIB), description="address space of a decoding child"
    )
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        0, description="stored bytes of finished studies are removed after so many days; 0: never"
    )
    retention_floor_bytes: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(0), description="below so much free space the oldest go before their time; 0: never"
    )
    work_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        30, description="rows of finished work are removed after so many days, what came of it stays; 0: never"
    )
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")
    route: tuple[Route, ...] = Field((), description="[[route]] tables, tried before the shipped ones (firstread.toml)")

    @field_validator("commitment_from", mode="before")
    @classmethod
    def _split_asked(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("pacs", "commitment_peers", mode="before")
    @classmethod
    def _peer_list(cls, value: Any) -> Any:
        parts = split_commas(value)
        return (
            tuple(Peer.parse(p) if isinstance(p, str) else p for p in parts)
            if isinstance(parts, (tuple, list))
            else parts
        )

    @field_validator("data_dir", "models_dir", "oidc_client_secret_file", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("ae_title", mode="after")
    @classmethod
    def _is_ae_title(cls, value: str) -> str:
        return checked_ae_title(value)

    @field_validator("commitment_from", mode="after")
    @classmethod
    def _are_ae_titles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_ae_title(title) for title in value)

    @field_validator("commitment_from", mode="after")
    @classmethod
    def _are_destinations(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = {peer.ae_title for peer in info.data.get("pacs", ())}
        if strangers := sorted(set(value) - known - {"all"}):
            raise ValueError(f"{', '.join(strangers)}: no AE title of FIRSTREAD_PACS; say one of those, or all")
        return value

    @field_validator("retention_floor_bytes", mode="after")
    @classmethod
    def _is_above_the_last_floor(cls, value: ByteSize, info: ValidationInfo) -> ByteSize:
        least = info.data.get("min_free_bytes")
        if value and least is not None and value <= least:
            raise ValueError(f"say more than FIRSTREAD_MIN_FREE_BYTES ({int(least)}): below that scans are refused")
        return value

    @field_validator("broker_url", mode="after")
    @classmethod
    def _is_broker_url(cls, value: str) -> str:
        for url in value.split(";") if value else ():  # several sentinels, several RabbitMQ nodes
            check_scheme(url, BROKER_SCHEMES)
        return value

    @field_validator("database_url", mode="after")
    @classmethod
    def _is_database_url(cls, value: str) -> str:
        if value:
            check_scheme(value, DATABASE_SCHEMES)
            port = DATABASE_PORT.match(value)
            if port and port[1] and not port[1].isdecimal():
                raise ValueError("its port is no number; @, : and / in a password are written %40, %3A and %2F")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings'
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values, then the environment, then the TOML file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, toml

    @cached_property
    def spool_dir(self) -> Path:
        """Where accepted bytes are kept."""
        return self.data_dir / "spool"

    @cached_property
    def reports_dir(self) -> Path:
        """Where reports are stored before they are sent."""
        return self.data_dir / "reports"

    @cached_property
    def previews_dir(self) -> Path:
        """Where inference leaves the PNG previews that the worklist serves."""
        return self.data_dir / "previews"

    @cached_property
    def callers(self) -> tuple[Caller, ...]:
        """Who may call, of `calling_aes` and of the `[[caller]]` tables; empty: anybody."""
        return (*map(Caller.parse, self.calling_aes), *self.caller)

    @cached_property
    def known_calling_aes(self) -> tuple[str, ...]:
        """The AE titles that are named in them: those that metrics tell apart."""
        return tuple(caller.ae_title for caller in self.callers if caller.ae_title is not None)

    @cached_property
    def credentials(self) -> Credentials:
        """The files of TLS."""
        return Credentials(certificate=self.tls_certificate, key=self.tls_key, ca=self.tls_ca)

    @cached_property
    def anchors_file(self) -> Path:
        """Where intake writes down how far the audit chain reaches."""
        return self.data_dir / "audit" / "anchors.jsonl"

    @cached_property
    def effective_database_url(self) -> str:
        """`database_url`, or the SQLite file in the data directory."""
        return self.database_url or f"sqlite:///{self.data_dir / 'firstread.db'}"


def config_file() -> Path:
    """`$FIRSTREAD_CONFIG`, else `firstread.toml` in the working directory."""
    return Path(os.environ.get("FIRSTREAD_CONFIG", "firstread.toml"))
