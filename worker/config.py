"""Sole owner of the settings: `FIRSTREAD_*` in the environment, or `firstread.toml`; the environment wins.

Settings are read at the doors (`__main__`, `cli`, `celery_app`) and passed inward as plain values.
"""

import difflib
import os
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydicom.datadict import keyword_dict, tag_for_keyword

from worker.errors import SettingsError
from worker.files import make_private

GIB = 1 << 30
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps")
DATABASE_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg")


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/firstread`, else `~/.local/share/firstread`."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "firstread"


class Peer(BaseModel):
    """A DICOM application entity somewhere else, written `AE@HOST:PORT`."""

    model_config = ConfigDict(frozen=True)
    ae_title: Annotated[str, Field(min_length=1, max_length=16)]
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AE@HOST:PORT`; the AE title may hold an `@`, an IPv6 host stands in brackets."""
        ae_title, at, address = text.strip().rpartition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and ae_title and host and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(f"{text!r} is not AE@HOST:PORT, for example PACS@192.0.2.10:104")
        if len(ae_title) > 16:
            raise ValueError(f"{text!r}: an AE title has at most 16 characters")
        return cls(ae_title=ae_title, host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


class Route(BaseModel):
    """One `[[route]]` table: which objects go to which model.

    `when` maps a DICOM keyword, or several joined by `|` (any of them), to patterns of which one must match the value;
    patterns are case-insensitive with `*` and `?`, and the empty pattern matches an absent or empty value. The
    direction cosines of `ImageOrientationPatient` are matched as their plane: AXIAL, CORONAL, SAGITTAL or OBLIQUE.
    A route names a `model`, or says why the object is `not_eligible`. The first match wins, but a route marked `also`
    fires and lets the search go on. `remark` is shown with the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    when: dict[str, tuple[str, ...]]
    model: str | None = None
    not_eligible: str | None = None
    also: bool = False
    remark: str | None = None

    @field_validator("when", mode="before")
    @classmethod
    def _one_pattern_is_a_list_of_one(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: (patterns,) if isinstance(patterns, str) else patterns for key, patterns in value.items()}

    @field_validator("when", mode="after")
    @classmethod
    def _names_attributes(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for keyword in (word for keywords in value for word in keywords.split("|")):
            if not keyword or tag_for_keyword(keyword) is None:
                near = difflib.get_close_matches(keyword, keyword_dict, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{keyword!r} is no DICOM keyword (PS3.6 chapter 6){meant}")
        return value

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if (self.model is None) == (self.not_eligible is None):
            raise ValueError(f"route {self.name!r}: say either model or not_eligible")
        return self


def _checked_ae_title(value: str) -> str:
    good = value.isascii() and value.isprintable() and "\\" not in value and value == value.strip()
    if not good or not 1 <= len(value) <= 16:
        raise ValueError(
            "an AE title is 1 to 16 printable ASCII characters without backslash or outer spaces (PS3.5 6.2)"
        )
    return value


def _check_scheme(url: str, schemes: tuple[str, ...]) -> None:
    """Refuse what is no URL of these schemes; nothing of it is quoted but the scheme: the rest may be secret."""
    scheme, colon, _ = url.partition("://")
    if not colon or scheme not in schemes:
        named = f"{scheme}:// is not supported" if colon and re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme) else ""
        raise ValueError(f"{named or 'it is no URL'}; allowed: {', '.join(f'{known}://' for known in schemes)}")


_DATABASE_PORT = re.compile(r"[^:]+://(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]*)(?::([^/?]*))?")
"""The port of a URL as SQLAlchemy reads it."""


def _split_commas(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Every setting, its default and its meaning (the description is what `firstread config` and README show)."""

    model_config = SettingsConfigDict(
        env_prefix="FIRSTREAD_", extra="ignore", frozen=True, validate_default=True, env_ignore_empty=True
    )

    data_dir: Path = Field(default_factory=default_data_dir, description="where everything is kept (made 0700)")
    ae_title: Annotated[str, Field(min_length=1, max_length=16)] = Field("FIRSTREAD", description="our AE title")
    require_called_ae: bool = Field(False, description="serve only associations that call our AE title")
    calling_aes: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="AE titles that may call, comma-separated; empty: any, with a warning"
    )
    dicom_host: str = Field("127.0.0.1", description="address the DICOM listener binds")
    dicom_port: Annotated[int, Field(ge=0, le=65535)] = Field(11112, description="its port; 0: a free one, printed")
    max_associations: Annotated[int, Field(ge=1)] = Field(100, description="associations served at once")
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
        (), description="where reports go: AE@HOST:PORT, comma-separated"
    )
    models_dir: Path | None = Field(None, description="model packages beside the shipped ones")
    engine: Literal["auto", "keras"] = Field("auto", description="inference engine")
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
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")
    route: tuple[Route, ...] = Field((), description="[[route]] tables, tried before the shipped ones (firstread.toml)")

    @field_validator("calling_aes", mode="before")
    @classmethod
    def _ae_list(cls, value: Any) -> Any:
        return _split_commas(value)

    @field_validator("pacs", mode="before")
    @classmethod
    def _peer_list(cls, value: Any) -> Any:
        parts = _split_commas(value)
        return (
            tuple(Peer.parse(p) if isinstance(p, str) else p for p in parts)
            if isinstance(parts, (tuple, list))
            else parts
        )

    @field_validator("data_dir", "models_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("ae_title", mode="after")
    @classmethod
    def _is_ae_title(cls, value: str) -> str:
        return _checked_ae_title(value)

    @field_validator("calling_aes", mode="after")
    @classmethod
    def _are_ae_titles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked_ae_title(title) for title in value)

    @field_validator("broker_url", mode="after")
    @classmethod
    def _is_broker_url(cls, value: str) -> str:
        for url in value.split(";") if value else ():  # several sentinels, several RabbitMQ nodes
            _check_scheme(url, BROKER_SCHEMES)
        return value

    @field_validator("database_url", mode="after")
    @classmethod
    def _is_database_url(cls, value: str) -> str:
        if value:
            _check_scheme(value, DATABASE_SCHEMES)
            port = _DATABASE_PORT.match(value)
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
    def effective_database_url(self) -> str:
        """`database_url`, or the SQLite file in the data directory."""
        return self.database_url or f"sqlite:///{self.data_dir / 'firstread.db'}"


def config_file() -> Path:
    """`$FIRSTREAD_CONFIG`, else `firstread.toml` in the working directory."""
    return Path(os.environ.get("FIRSTREAD_CONFIG", "firstread.toml"))


def load_settings(**overrides: Any) -> Settings:
    """Read and check every setting.

    Raises
    ------
    SettingsError
        Naming each bad setting, its value and what is allowed.
    """
    path = config_file()
    if "FIRSTREAD_CONFIG" in os.environ and not path.is_file():
        raise SettingsError(f"FIRSTREAD_CONFIG={path}: there is no such file")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None
    except ValueError as error:  # a TOML file that cannot be read as TOML
        raise SettingsError(f"{path}: {error}") from None
    return settings


def made_data_dir(settings: Settings) -> Path:
    """Make the data directory where it is missing, and return it.

    Raises
    ------
    SettingsError
        When it can neither be made nor written to.
    """
    directory = settings.data_dir
    try:
        make_private(directory)
    except OSError as error:
        raise SettingsError(f"FIRSTREAD_DATA_DIR={directory}: it cannot be made ({error.strerror}): {_OTHER}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise SettingsError(f"FIRSTREAD_DATA_DIR={directory}: this user may not write there: {_OTHER}")
    return directory


_OTHER = "name a directory that this user can make or write to"


def unknown_names() -> list[str]:
    """Return what is no setting, in the environment and in the file: a misspelling to warn of, not to stop for."""
    known = {f"FIRSTREAD_{name.upper()}" for name in Settings.model_fields} | {"FIRSTREAD_CONFIG"}
    misspelt = sorted(name for name in os.environ if name.startswith("FIRSTREAD_") and name not in known)
    return misspelt + [f"{config_file()}: {key}" for key in sorted(_in_file() - Settings.model_fields.keys())]


def _in_file() -> set[str]:
    """Return the top-level keys of the file; none where there is no file that can be read."""
    try:
        return set(tomllib.loads(config_file().read_text(encoding="utf-8")))
    except (OSError, ValueError):  # `load_settings` says so
        return set()


def _explain(item: Any) -> str:
    first, *rest = (str(part) for part in item["loc"])
    variable = f"FIRSTREAD_{first.upper()}"
    if os.environ.get(variable) or first not in _in_file():
        name = ".".join([variable, *rest])
    else:
        name = f"{config_file()}: {'.'.join([first, *rest])}"
    shown = "***" if first.endswith("_url") else repr(item.get("input"))
    said = item["msg"].removeprefix("Value error, ")
    if item["type"].startswith("byte_size"):
        said = "say a number of bytes, or for example 500MiB or 2GiB"
    return f"{name}={shown}: {said}"
