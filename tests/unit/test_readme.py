"""README names every command, setting and metric: what is not written there does not exist for its users."""

import contextlib
import re
import ssl
import subprocess
from pathlib import Path

import pytest
import typer.main
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from worker import metrics, tls
from worker.cli import app
from worker.config import Credentials, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    root = typer.main.get_command(app)
    names: list[str] = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        names += [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
    return names


@pytest.mark.parametrize("command", commands())
def test_every_command(command: str) -> None:
    assert f"firstread {command}" in README


@pytest.mark.parametrize("setting", list(Settings.model_fields))
def test_every_setting(setting: str) -> None:
    assert f"`FIRSTREAD_{setting.upper()}`" in README
    assert Settings.model_fields[setting].description


@pytest.mark.parametrize(
    "metric", [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)], ids=lambda m: m._name
)
def test_every_metric(metric: MetricWrapperBase) -> None:
    name = metric._name + ("_total" if isinstance(metric, Counter) else "")
    labels = "{" + ",".join(metric._labelnames) + "}" if metric._labelnames else ""
    assert f"`{name}{labels}`" in README


@pytest.mark.peer("openssl", "sh")
def test_the_certificates_of_its_four_steps_do(tmp_path: Path) -> None:
    """Its commands are run as they stand, but for shorter keys, which are made sooner."""
    (commands,) = re.findall(r"```sh\n(.*?)```", (ROOT / "deploy" / "tls.md").read_text(), re.DOTALL)
    subprocess.run(["sh", "-ec", commands.replace("3072", "2048")], cwd=tmp_path, check=True, capture_output=True)
    ours, theirs = (
        Credentials(tmp_path / f"{name}.crt", tmp_path / f"{name}.key", tmp_path / "ca.pem")
        for name in ("firstread", "ct1")
    )
    assert tls.inspect(ours).subject == "CN=firstread,O=Hospital"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.server_context(ours, verify_peer=True).wrap_bio(incoming, outgoing, server_side=True)
    client = tls.client_context(theirs).wrap_bio(outgoing, incoming, server_hostname="firstread.hospital.example")
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    shown = server.getpeercert(binary_form=True)
    assert shown
    assert tls.names_of(shown) == ("CN=ct1,O=Hospital", "DNS:ct1.hospital.example")
