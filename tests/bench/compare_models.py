"""Every recipe trained and measured on the same films, here, by the commands a user has: the table of ENGINES.md.

    python tests/bench/compare_models.py --films CXR --slices CT --lite0 PATH --squeezenet PATH --work DIR

Each model is trained by `firstread models train` unless its package lies in DIR already, so that a run that was broken
off goes on. What costs too long on two processor cores is trained for fewer epochs, and the table says so. The result
is `models/comparison.json`; `python tests/bench/compare_models.py --table` prints it as that page shows it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "models" / "comparison.json"


@dataclass(frozen=True)
class Entry:
    """A row: the recipe, the data it reads, what was changed, and what the article published."""

    recipe: str
    data: str
    options: tuple[str, ...] = ()
    note: str = ""

    def command(self) -> str:
        """As a user types it."""
        names = {"films": "FILMS", "slices": "SLICES"}
        options = " ".join(FILES.get(option, option) for option in self.options)
        return f"firstread models train {self.recipe} --data {names[self.data]} {options}".strip()


FILES = {"{lite0}": "efficientnet-lite0-57934424.pth", "{squeezenet}": "squeezenet_v1.1_imagenet_notop.h5"}
"""Backbone weights, as a user has them."""

ENTRIES = (
    Entry("chest_xray_triage", "films", ("--backbone-weights", "{lite0}")),
    Entry("chest_xray_squeezenet", "films", ("--backbone-weights", "{squeezenet}")),
    Entry("covid_pneumonia_mlp", "films"),
    Entry("covid_cxr_vgg16", "films", ("--backbone-weights", "none"), "backbone of random weights"),
    Entry("tuberculosis_vgg16", "films", ("--backbone-weights", "none"), "backbone of random weights"),
    Entry("tuberculosis_cnn", "films", ("--epochs", "1"), "1 of 30 epochs"),
    Entry("pneumonia_small_vgg", "films", ("--epochs", "4"), "4 of 60 epochs"),
    Entry("chest_ct_covid", "slices", ("--backbone-weights", "{lite0}")),
    Entry("covid_ct_mlp", "slices"),
)


def main() -> None:
    """Train, measure, write; or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--slices", type=Path)
    parser.add_argument("--lite0", type=Path, help=FILES["{lite0}"])
    parser.add_argument("--squeezenet", type=Path, help=FILES["{squeezenet}"])
    parser.add_argument("--work", type=Path, help="where packages are made, and found again")
    parser.add_argument("--only", action="append", help="a recipe; may be given again")
    parser.add_argument("--table", action="store_true", help="print the table of the last result")
    asked = parser.parse_args()
    if asked.table:
        print(table(json.loads(RESULT.read_text(encoding="utf-8"))))
        return
    if not (asked.films and asked.slices and asked.lite0 and asked.squeezenet and asked.work):
        parser.error("--films, --slices, --lite0, --squeezenet and --work, or --table")
    known = json.loads(RESULT.read_text(encoding="utf-8"))["models"] if RESULT.exists() else []
    rows = {row["recipe"]: row for row in known}
    for entry in ENTRIES:
        if asked.only and entry.recipe not in asked.only:
            continue
        package = trained(entry, asked)
        rows[entry.recipe] = row_of(entry, package)
        ordered = [rows[entry.recipe] for entry in ENTRIES if entry.recipe in rows]
        found = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "models": ordered}
        RESULT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def trained(entry: Entry, asked: argparse.Namespace) -> Path:
    """Return the package of a row; it is trained where it is not there."""
    shipped = ROOT / "models" / "packages" / entry.recipe
    for folder in (asked.work / entry.recipe, shipped):
        versions = sorted(folder.glob("*/card.json"), key=version_of)
        if versions:
            return versions[-1].parent
    files = {"{lite0}": asked.lite0, "{squeezenet}": asked.squeezenet}
    options = [str(files.get(option, option)) for option in entry.options]
    data = {"films": asked.films, "slices": asked.slices}[entry.data]
    command = [sys.executable, "-m", "worker.cli", "models", "train", entry.recipe, "--data", str(data)]
    subprocess.run([*command, "--out", str(asked.work), *options], cwd=ROOT, check=True)
    return max((asked.work / entry.recipe).glob("*/card.json"), key=version_of).parent


def version_of(card: Path) -> tuple[int, ...]:
    """Return the version of a package by the path of its card, as numbers."""
    return tuple(int(part) for part in card.parent.name.split("."))


def row_of(entry: Entry, package: Path) -> dict[str, Any]:
    """Read a package's figures off its card, and time its network."""
    from models.training.recipes import find_recipe

    card = json.loads((package / "card.json").read_text(encoding="utf-8"))
    metrics, training = card["metrics"], card["training"]
    timing = json.loads(
        subprocess.run(
            [sys.executable, "-c", TIMING, str(package)], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    )
    names = [label["name"] for label in card["labels"]]
    if len(names) == 2:  # that of the other is the same
        names = names[1:]
    return {
        "recipe": entry.recipe,
        "version": card["version"],
        "architecture": training["architecture"],
        "command": entry.command(),
        "note": entry.note,
        "published": find_recipe(entry.recipe).published,
        "parameters": timing["parameters"],
        "megabytes": round((package / "model.keras").stat().st_size / 1e6, 1),
        "milliseconds": timing["milliseconds"],
        "training_seconds": training["seconds"],
        "epochs_run": training["epochs_run"],
        "test": {"images": metrics["images"], "patients": metrics["patients"]},
        "accuracy": metrics["accuracy"],
        "macro_f1": metrics["macro_f1"],
        "auroc": {name: metrics["labels"][name]["auroc"] for name in names},
    }


TIMING = """
import json, sys, time
from pathlib import Path
import numpy as np
from models.backend import set_threads
set_threads(1)
from models.classifier import Classifier
from models.golden import golden_image
from models.registry import read_package
package = read_package(Path(sys.argv[1]).resolve())
classifier = Classifier.load(package, engine="keras")
film = np.kron(golden_image(), np.ones((4, 4))).astype(np.float32)
classifier.probabilities(classifier.prepare(film)[np.newaxis])
spent = []
for _ in range(15):
    began = time.perf_counter()
    classifier.probabilities(classifier.prepare(film)[np.newaxis])
    spent.append(time.perf_counter() - began)
spent.sort()
found = {"parameters": classifier.network.count_params(), "milliseconds": round(1000 * spent[len(spent) // 2], 1)}
print(json.dumps(found))
"""
"""One image at a time on one thread, preparing it (from 640 x 544) included; the median of fifteen."""


def table(found: dict[str, Any]) -> str:
    """Return the rows in Markdown."""
    lines = [
        "| trained by | weights | ms an image, one core | test images | accuracy | macro F1 | AUROC | published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["models"]:
        aurocs = "; ".join(f"{label} {shown(value)}" for label, value in row["auroc"].items())
        note = f" ({row['note']})" if row["note"] else ""
        lines.append(
            f"| `{row['command']}`{note} | {row['parameters']:,} | {row['milliseconds']:g} | {row['test']['images']} |"
            f" {shown(row['accuracy'])} | {shown(row['macro_f1'])} | {aurocs} | {row['published'] or 'ours'} |"
        )
    return "\n".join(lines)


def shown(value: dict[str, float]) -> str:
    """Return a value with its 95 % interval."""
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
