"""`firstread config`: every setting, where its value comes from, and what comes of one that is worked out."""

import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
from sqlalchemy.engine import make_url

from models.engines.choice import choose
from models.errors import ModelError
from worker import bootstrap
from worker.commands.output import print_json, print_table, tell
from worker.config import Settings, config_file, load_settings, origins

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config(as_json: AsJson = False) -> None:
    """Show the settings: value, where it comes from, and the effective value; secrets are masked."""
    settings = load_settings()
    written, origin = settings.model_dump(mode="json"), origins()
    entries = {}
    for name in Settings.model_fields:
        value = _shown(settings, name, written[name])
        work_out = WORKED_OUT.get(name)
        effective = value if work_out is None else work_out(settings)
        entries[f"FIRSTREAD_{name.upper()}"] = {"value": value, "from": origin[name], "effective": effective}
    if as_json:
        print_json(entries)
        return
    rows = (
        (name, _words(entry), entry["from"], Settings.model_fields[field].description)
        for field, (name, entry) in zip(Settings.model_fields, entries.items(), strict=True)
    )
    print_table("settings", ("name", "value", "from", "meaning"), rows)
    file = config_file().absolute()
    state = "" if file.is_file() else ", which is not there"
    tell(f"the environment goes before the file; the file is {file}{state}")


def _shown(settings: Settings, name: str, value: Any) -> Any:
    """Return a value as it may be seen and would be written."""
    if name == "oidc_roles":
        return [f"{claimed}={role}" for claimed, role in settings.oidc_roles]
    if name in {"pacs", "commitment_peers"}:
        return [str(peer) for peer in getattr(settings, name)]
    if name == "database_url" and value:
        return masked_database(value)
    return masked(value) if name.endswith("_url") and value else value


def masked_database(url: str) -> str:
    """Return a database's URL without passwords, whatever signs are in them."""
    made = make_url(url)
    hidden = {
        name: "***" if re.search("password|secret", name, re.IGNORECASE) else value
        for name, value in made.query.items()
    }
    return made.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def masked(url: str) -> str:
    """Return a URL, or several, without passwords: neither `user:secret@` nor `?password=secret`."""
    url = re.sub(r"(://[^:/@;]*:)[^;]*?@(?=[^@;]*(;|$))", r"\1***@", url)
    return re.sub(r"(?i)((?:password|passwd|secret|token)=)[^&;]+", r"\1***", url)


def _listener_processes(settings: Settings) -> int:
    from dicom_listener.acceptors import processes

    return processes(settings.listener_processes)


def _engines(settings: Settings) -> dict[str, str]:
    """Return the engine of every package, or why there is none."""
    found = {}
    for package in bootstrap.model_registry(settings).packages():
        try:
            found[package.identifier] = choose(package, settings.engine, settings.precision).engine
        except ModelError as error:
            found[package.identifier] = str(error)
    return found


WORKED_OUT: dict[str, Callable[[Settings], Any]] = {
    "database_url": lambda settings: masked_database(settings.effective_database_url),
    "commitment_peers": lambda settings: [str(peer) for peer in settings.commitment_peers or settings.pacs],
    "models_dir": lambda settings: str(bootstrap.models_dir(settings)),
    "listener_processes": _listener_processes,
    "inference_workers": bootstrap.inference_workers,
    "decoders": bootstrap.decoders,
    "engine": _engines,
}
"""Settings of which `0`, `auto` or nothing stands for something that depends on this machine or on other settings."""


def _words(entry: dict[str, Any]) -> str:
    """Write a value; behind it, where that is something else, what it comes to here."""
    value, effective = _text(entry["value"]), _text(entry["effective"])
    if value == effective:
        return value
    return f"{value} → {effective}" if value else f"→ {effective}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {what}" for name, what in value.items())
    if isinstance(value, list):
        return ", ".join(str(item.get("name", item)) if isinstance(item, dict) else str(item) for item in value)
    return "" if value is None else str(value)
