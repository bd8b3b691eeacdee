"""Reading the settings at a door, and saying what is wrong with them."""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from worker.config.settings import Settings, config_file
from worker.errors import SettingsError
from worker.files import make_private


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


def origins() -> dict[str, Literal["environment", "file", "default"]]:
    """Return where the value of each setting comes from, as the sources themselves see it.

    To be called when `load_settings` has found nothing wrong with them.
    """
    in_environment = EnvSettingsSource(Settings)()
    in_file = TomlConfigSettingsSource(Settings, toml_file=config_file())()
    return {
        name: "environment" if name in in_environment else "file" if name in in_file else "default"
        for name in Settings.model_fields
    }


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
    if not item["loc"]:  # what does not fit together names the settings itself
        return str(item["msg"]).removeprefix("Value error, ")
    first, *rest = (str(part) for part in item["loc"])
    variable = f"FIRSTREAD_{first.upper()}"
    if os.environ.get(variable) or first not in _in_file():
        name = ".".join([variable, *rest])
    else:
        name = f"{config_file()}: {'.'.join([first, *rest])}"
    shown = "***" if first.endswith(("_url", "_token", "_secret")) else repr(item.get("input"))
    said = item["msg"].removeprefix("Value error, ")
    if item["type"].startswith("byte_size"):
        said = "say a number of bytes, or for example 500MiB or 2GiB"
    return f"{name}={shown}: {said}"
