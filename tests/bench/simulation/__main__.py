"""Scale on paper: what a site of any size would do, simulated with stage times measured on the real code.

    python -m tests.bench.simulation measure  [--json FILE]     time every stage on this machine
    python -m tests.bench.simulation validate [--json FILE]     the real services beside the simulation of them
    python -m tests.bench.simulation page                       tables and charts of deploy/scaling.md, of kept results
    python -m tests.bench.simulation run --scenario NAME [--json FILE] [--pictures DIR]

`run` needs no server and no GPU: it reads the stage times and what is assumed from `figures/`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.simulation import scenarios, tables
from tests.bench.simulation.inputs import ASSUMED, MEASURED, Inputs

WIDTH = 160
"""Of tables that go into a file or a pipe."""


def shown(options: argparse.Namespace, *renderables: Any) -> None:
    """Print tables: on standard output, unless that carries the JSON."""
    there = sys.stderr if str(options.json) == "-" else sys.stdout
    console = Console(file=there, width=None if there.isatty() else WIDTH)
    for one in renderables:
        console.print(one)


@contextmanager
def progress(name: str) -> Iterator[Callable[..., None]]:
    """Show a bar; what is given is called with words, and the share that is done where that is known."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)

        def tell(words: str, share: float | None = None) -> None:
            if share is not None:
                bar.update(task, total=1.0, completed=share)
            bar.update(task, description=f"{name}: {words}")

        yield tell


def measure(options: argparse.Namespace) -> None:
    """Time every stage; the result becomes the input of the others."""
    from tests.bench.simulation.measuring.everything import measure_all

    with progress("measure") as tell:
        document = measure_all(options.rounds, tell)
    write(options.json or MEASURED, document)
    shown(options, tables.stages(Inputs.of(document)))


def validate(options: argparse.Namespace) -> None:
    """Run the real services and simulate the same."""
    from tests.bench.simulation.validate import again, compare

    inputs = Inputs.read(options.measured)
    rows: list[dict[str, Any]] = []
    about = {"measured": inputs.about_measured}
    with progress("validate") as tell:
        if options.again:
            found: Iterable[dict[str, Any]] = again(
                inputs, json.loads(options.again.read_text(encoding="utf-8"))["rows"]
            )
        else:
            found = compare(inputs, options.rounds, tell, options.workers)
        for row in found:  # written as they come: a run takes its time
            rows.append(row)
            write(None if str(options.json) == "-" else options.json, about | {"rows": rows})
    if str(options.json) == "-":
        write(options.json, about | {"rows": rows})
    shown(options, tables.comparison(rows))


def run(options: argparse.Namespace) -> None:
    """Simulate a scenario."""
    inputs = Inputs.read(options.measured, options.assumed)
    names = list(scenarios.SCENARIOS) if options.scenario == "all" else [options.scenario]
    documents: dict[str, Any] = {}
    for name in names:
        with progress(name) as tell:
            documents[name] = scenarios.SCENARIOS[name](inputs, tell)
    write(options.json, {"measured": inputs.about_measured, **documents})
    for name, document in documents.items():
        shown(options, *tables.of_scenario(name, document))
    if options.pictures is not None:
        from tests.bench.simulation import charts

        shown(options, *(f"drawn: {path}" for path in charts.draw(documents, options.pictures)))


def renew_page(_: argparse.Namespace) -> None:
    """Write the tables of the page anew, and its charts, from the results that are kept."""
    from tests.bench.simulation import charts, page

    found = page.results()
    text = page.PAGE.read_text(encoding="utf-8")
    page.PAGE.write_text(page.filled(text, page.tables_of(found)), encoding="utf-8")
    scenes = {name: found[name] for name in scenarios.SCENARIOS}
    shown(argparse.Namespace(json=None), *(f"drawn: {path}" for path in charts.draw(scenes, page.PICTURES)))


def write(path: Path | None, document: Any) -> None:
    """Write a document, its numbers as short as they mean something; `-` is standard output."""
    if path is None:
        return
    text = json.dumps(tables.rounded(document), indent=1) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure", help="time every stage of the real code here")
    one.set_defaults(do=measure)
    one.add_argument("--rounds", type=int, default=5)
    two = commands.add_parser("validate", help="the real services with 1, 2 and 4 workers beside the simulation")
    two.set_defaults(do=validate)
    two.add_argument("--rounds", type=int, default=1)
    two.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    two.add_argument("--again", type=Path, help="simulate once more what an earlier result has seen; nothing is run")
    three = commands.add_parser("run", help="simulate a scenario")
    three.set_defaults(do=run)
    three.add_argument("--scenario", choices=[*scenarios.SCENARIOS, "all"], default="all")
    three.add_argument("--assumed", type=Path, default=ASSUMED, help="what is assumed")
    three.add_argument("--pictures", type=Path, help="a folder for charts, PNG and SVG")
    four = commands.add_parser("page", help="tables and charts of deploy/scaling.md from the results that are kept")
    four.set_defaults(do=renew_page)
    for command in (two, three):
        command.add_argument("--measured", type=Path, default=MEASURED, help="what `measure` has written")
    for command in (one, two, three):
        command.add_argument("--json", type=Path, help="where the result goes; - is standard output")
    options = parser.parse_args(arguments)
    options.do(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
