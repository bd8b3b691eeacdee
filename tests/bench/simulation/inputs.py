"""What a simulation is fed with: stage times as measured, and what is assumed, each with where it is from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.bench.simulation.arrivals import Mix, mix_of
from tests.bench.simulation.plant import Plant
from tests.bench.simulation.stage_times import Stage, stage_of

FIGURES = Path(__file__).with_name("figures")
MEASURED = FIGURES / "measured.json"
ASSUMED = FIGURES / "assumed.json"
GPU = Path(__file__).parent.with_name("results") / "gpu.json"
"""What `python -m tests.bench.gpu` saw on the only GPU that was to be had."""
NETWORKS = {"gpu.cr": "chest_xray_triage", "gpu.ct": "chest_ct_covid"}


def gpu_stages(path: Path = GPU) -> dict[str, dict[str, Any]]:
    """Return what a call of the shipped networks takes on a GPU, in float32: as stages, by name."""
    result = json.loads(path.read_text(encoding="utf-8"))
    seen = {row["name"]: row["float32"] for row in result["rows"]}
    how = (
        f"{result['device']}, Keras on {result['backend']}, float32: from the host's memory and back; nothing beside it"
    )
    return {
        stage: {
            "source": "measured",
            "how": how,
            "fixed_seconds": {"wait": seen[network]["fixed_ms"] / 1000},
            "each_seconds": {"wait": seen[network]["each_ms"] / 1000},
        }
        for stage, network in NETWORKS.items()
    }


@dataclass(frozen=True)
class Inputs:
    """What was measured, and what is assumed.

    Attributes
    ----------
    stages
        By name; what was measured wins.
    channels
        Durable writes that the disk does at the same time.
    pace_seconds
        What a piece of work took while the stages were measured (`measuring.pace`).
    """

    stages: Mapping[str, Stage]
    channels: int
    pace_seconds: float
    about_measured: Mapping[str, Any]
    assumed: Mapping[str, Any]

    @classmethod
    def of(cls, measured: Mapping[str, Any], assumed: Mapping[str, Any] | None = None) -> "Inputs":
        """Join what was measured with what is assumed."""
        assumed = json.loads(ASSUMED.read_text(encoding="utf-8")) if assumed is None else assumed
        stages = {
            name: stage_of(name, stage)
            for document in (assumed, {"stages": gpu_stages()}, measured)
            for name, stage in document["stages"].items()
        }
        about = {name: measured[name] for name in ("machine", "at", "load_average", "pace_seconds", "spool_channels")}
        channels = max(1, round(measured["spool_channels"]))
        return cls(stages, channels, measured["pace_seconds"], about, assumed)

    @classmethod
    def read(cls, measured: Path = MEASURED, assumed: Path = ASSUMED) -> "Inputs":
        """Read both files."""
        return cls.of(*(json.loads(path.read_text(encoding="utf-8")) for path in (measured, assumed)))

    def plant(self, **settings: Any) -> Plant:
        """Return the assumed plant with some settings of one's own."""
        known = {field.name for field in fields(Plant)}
        assumed = {name: value for name, value in self.assumed["plant"].items() if name in known}
        return Plant(**{**assumed, "spool_channels": self.channels, **settings})

    @property
    def mix(self) -> Mix:
        """The modality park."""
        return mix_of(self.assumed["mix"])

    @property
    def day(self) -> Sequence[float]:
        """Share of a day's studies, by hour; their sum is 1."""
        shares = self.assumed["day"]["share_by_hour"]
        return [share / sum(shares) for share in shares]
