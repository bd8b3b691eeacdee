"""The soak: half an hour of steady load on the real stack, every process watched. `make soak`.

    python -m tests.soak [--minutes 30] [--warm-up 6] [--rate 1.0] [--out DIR]

Studies of one film each come in over real associations at a steady rate, a stand-in PACS takes the reports, the
worklist is read as a radiologist's browser does. At the end the memory of every process must be within 10 % of what it
was after the warm-up, its descriptors flat, no temporary file left over, and everything accepted complete and
delivered. Exit 0: so it was; 1: it was not. A table is printed; `soak.json` and `soak.html` lie in DIR.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.soak.picture import draw
from tests.soak.verdict import Row, judge
from tests.soak.watch import Watch
from tests.support.objects import film, save
from tests.support.peers import Storescp
from tests.support.stack import free_port
from worker.demo.film import Pattern, frontal

LOOK_SECONDS = 5.0
DRAIN_SECONDS = 120.0
"""How long what was accepted last may take to be delivered."""
console = Console(width=None if sys.stdout.isatty() else 140)


class Stack:
    """`firstread up` in a directory of its own, with a PACS beside it."""

    def __init__(self, folder: Path, pacs: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.data_dir = folder / "data"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FIRSTREAD_")},
            "TMPDIR": str(self.temporary),
            "FIRSTREAD_DATA_DIR": str(self.data_dir),
            "FIRSTREAD_DICOM_PORT": str(free_port()),
            "FIRSTREAD_WEB_PORT": str(free_port()),
            "FIRSTREAD_PACS": pacs,
            "FIRSTREAD_STUDY_QUIET_SECONDS": "2",
        }
        command = [sys.executable, "-m", "worker.cli", "up", "--json"]
        with (folder / "up.log").open("wb") as log:
            self.up = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.up.stdout is not None
        text = ""
        for line in self.up.stdout:
            text += line
            if line.startswith("}"):
                break
        self.addresses: dict[str, Any] = json.loads(text)

    def end(self) -> None:
        """Ask it to drain and stop."""
        self.up.terminate()
        self.up.wait(90)

    def ask(self, *arguments: str) -> Any:
        """Run a command with `--json`."""
        command = [sys.executable, "-m", "worker.cli", *arguments, "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return json.loads(done.stdout)

    def push(self, path: Path) -> bool:
        """Send one file as a modality does; say whether it was accepted."""
        title, _, address = self.addresses["listener"].rpartition("@")
        host, _, port = address.rpartition(":")
        command = ["storescu", "-aec", title, host, port, str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def read_worklist(self) -> None:
        """Ask for the list as a machine does."""
        httpx.get(f"{self.addresses['worklist']}api/v1/studies?limit=100", timeout=60).raise_for_status()


@contextmanager
def running(folder: Path) -> Iterator[tuple[Stack, Storescp]]:
    """Start everything, and end it whatever happens."""
    with Storescp(folder / "pacs") as pacs:
        stack = Stack(folder, pacs.peer)
        try:
            yield stack, pacs
        finally:
            stack.end()


def load(stack: Stack, watch: Watch, options: argparse.Namespace, folder: Path) -> int:
    """Push studies at the rate that was asked for, look in between; return how many were accepted."""
    pixels = np.round(frontal(512, 1, Pattern.CLEAR) * 4095).astype(np.uint16)
    end, accepted, sent = 60.0 * options.minutes, 0, 0
    next_look = next_read = 0.0
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("soak", total=end)
        while (now := time.monotonic() - watch.began) < end:
            bar.update(task, completed=now, description=f"soak: {accepted} accepted")
            if now >= next_look:
                watch.look()
                next_look += LOOK_SECONDS
            if now >= next_read:
                stack.read_worklist()
                next_read += 10.0
            if now * options.rate >= sent:
                sent += 1
                path = save(film(np.roll(pixels, sent, axis=0)), folder / "film.dcm")
                accepted += stack.push(path)
            else:
                time.sleep(min(0.05, 1 / options.rate))
    return accepted


def settle(stack: Stack, accepted: int) -> dict[str, Any]:
    """Wait until what was accepted is complete and delivered; return the sums."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        sums: dict[str, Any] = stack.ask("reconcile")
        studies = stack.ask("studies")
        sums["delivered"] = sum(
            one["status"] == "delivered" for study in studies for report in study["reports"]
            for one in report["deliveries"]
        )  # fmt: skip
        if (sums["complete"] == sums["delivered"] == accepted) or time.monotonic() > deadline:
            return sums
        time.sleep(2)


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table("process", "memory MiB", "at the end", "growth", "descriptors", "at the end", "flat", title="Soak")
    for row in rows:
        growth = f"{100 * row.growth:+.1f} %"
        verdict = "yes" if row.flat else "NO" if row.whole else "NO: it was not there all the time"
        table.add_row(
            row.process, f"{row.memory_before:.1f}", f"{row.memory_after:.1f}", growth,
            f"{row.descriptors_before:.0f}", f"{row.descriptors_after:.0f}", verdict,
        )  # fmt: skip
    console.print(table)


def main() -> int:
    """Run the soak; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=6.0, help="minutes that do not count")
    parser.add_argument("--rate", type=float, default=1.0, help="studies a second")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="where soak.json and soak.html go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="firstread-soak-") as name, running(Path(name)) as (stack, pacs):
        watch = Watch(stack.up.pid, (stack.temporary, stack.data_dir / "spool" / "incoming", stack.data_dir / "run"))
        accepted = load(stack, watch, options, Path(name))
        end = time.monotonic() - watch.began
        sums = settle(stack, accepted)
        held = len(pacs.held())
        watch.look()
    rows = judge(watch.processes, 60 * options.warm_up, end)
    before = [count for seconds, count in watch.files if seconds <= 60 * options.warm_up]
    left_over = watch.files[-1][1] - max(before, default=0)
    show(rows)
    console.print(
        f"accepted {accepted}, complete {sums['complete']}, delivered {sums['delivered']}, at the PACS {held}"
    )
    console.print(f"unaccounted for {len(sums['unaccounted'])}, temporary files more than in the warm-up {left_over}")
    whole = sums["complete"] == sums["delivered"] == held == accepted > 0 and not sums["unaccounted"]
    passed = whole and left_over <= 0 and all(row.flat for row in rows)
    document = {
        "passed": passed, "minutes": options.minutes, "rate": options.rate, "accepted": accepted, "sums": sums,
        "at_the_pacs": held, "temporary_files_more": left_over,
        "processes": [{**asdict(row), "growth": row.growth, "flat": row.flat} for row in rows],
    }  # fmt: skip
    (options.out / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
    draw(watch.processes, 60 * options.warm_up, options.out / "soak.html")
    console.print(f"{'flat' if passed else 'NOT FLAT'}; {options.out}/soak.json, {options.out}/soak.html")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
