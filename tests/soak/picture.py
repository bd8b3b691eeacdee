"""The soak as one picture: memory and descriptors of every process over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.training.report.svg import Plot, ticks
from tests.soak.watch import Sample

_COLOURS = ("#4c5f55", "#15629c", "#b35c00", "#8331a7", "#1a7040", "#b3261e")
_STYLE = (
    "svg{font:12px sans-serif;background:#fff} .grid{stroke:#e0e5ea;fill:none} .axis{stroke:#8a96a3;fill:none}"
    " .line{fill:none;stroke-width:1.6} .middle{text-anchor:middle} .end{text-anchor:end}"
    " .warm{stroke:#b3261e;stroke-dasharray:4 4;fill:none}"
)


def draw(processes: Mapping[str, Sequence[Sample]], warm_up: float, path: Path) -> None:
    """Write a page with two plots; a colour and dash a process, its name beside its last value."""
    names = [name for name, samples in processes.items() if len(samples) > 3]
    end = max(samples[-1].seconds for samples in processes.values())
    plots = []
    for title, value in (("memory, MiB", _memory), ("file descriptors", _descriptors)):
        top = 1.1 * max(value(sample) for name in names for sample in processes[name])
        plot = Plot(
            f"{title} of every process over {end / 60:.0f} minutes", x=(0.0, end / 60), y=(0.0, top),
            width=900, height=380, left=56, right=150,
        )  # fmt: skip
        plot.axes("minutes", title, x_ticks=ticks(0.0, end / 60, 8), y_ticks=ticks(0.0, top, 8))
        plot.stretch((warm_up / 60, 0.0), (warm_up / 60, top), "warm")
        for number, name in enumerate(names):
            look = f"c{number % len(_COLOURS)} d{number // len(_COLOURS)}"
            points = [(sample.seconds / 60, value(sample)) for sample in processes[name]]
            plot.line(points, look)
            plot.text(points[-1], name.rpartition(" ")[0], look, right=6, down=4)
        plots.append(str(plot.svg()))
    colours = "".join(f".line.c{n}{{stroke:{colour}}} text.c{n}{{fill:{colour}}}" for n, colour in enumerate(_COLOURS))
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>Soak</title><style>{_STYLE}{colours}.d1{{stroke-dasharray:7 4}}"
        f"</style><h1>Soak</h1>{''.join(plots)}\n"
    )


def _memory(sample: Sample) -> float:
    return sample.memory_mib


def _descriptors(sample: Sample) -> float:
    return float(sample.descriptors)
