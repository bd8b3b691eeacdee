"""`python -m tests.fuzz`: bounded, seeded fuzzing of everything that reads what strangers sent."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.fuzz import guided
from tests.fuzz.runner import Result, Runner, replay
from tests.fuzz.targets import TARGETS

err = Console(stderr=True)
SHOWN = [name for name, target in TARGETS.items() if target.share]


def main(
    cases: Annotated[int, typer.Option(min=1, help="Cases in all, shared among the targets.")] = 100_000,
    target: Annotated[list[str] | None, typer.Option(help=f"Only this one: {', '.join(SHOWN)}.")] = None,
    seed: Annotated[int, typer.Option(help="The same cases for the same seed.")] = 1,
    keep: Annotated[Path, typer.Option(help="Where cases that found something are kept.")] = Path("build/fuzz"),
    hang_seconds: Annotated[float, typer.Option(min=0.1, help="A case that takes longer hangs.")] = 60.0,
    most_seconds: Annotated[float, typer.Option(min=1, help="No target goes on after so long.")] = 1800.0,
    coverage: Annotated[bool, typer.Option("--coverage", help="Led by coverage (atheris), where that sees.")] = False,
    again: Annotated[Path | None, typer.Option("--replay", exists=True, help="Run a kept case again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")] = False,
) -> None:
    """Run mutated objects through all that reads them; exit 1 when something was found."""
    if again is not None:
        found = replay(again)
        err.print(found or "nothing is found any more")
        raise typer.Exit(1 if found else 0)
    known = guided.NAMES if coverage else tuple(TARGETS)
    names = target or [name for name in SHOWN if name in known]
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint="--target")
    shares = {name: TARGETS[name].share or 1 for name in names}
    runner = Runner(seed=seed, keep=keep, hang_seconds=hang_seconds, most_seconds=most_seconds)
    results: list[Result] = []
    columns = (TextColumn("{task.description:13}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        for name, share in shares.items():
            own = max(1, cases * share // sum(shares.values()))
            task = progress.add_task(name, total=own)

            def advance(done: int, task: object = task) -> None:
                progress.advance(task, done)  # type: ignore[arg-type]

            results.append(guided.run(runner, name, own, advance) if coverage else runner.run(name, own, advance))
    if as_json:
        typer.echo(json.dumps([result.as_json() for result in results], indent=2))
    else:
        _show(results, seed)
    raise typer.Exit(0 if all(result.clean for result in results) else 1)


def _show(results: list[Result], seed: int) -> None:
    table = Table(title=f"fuzzing, seed {seed}")
    for heading in ("target", "cases", "crashes", "hangs", "violations", "slowest", "peak RSS", "took"):
        table.add_column(heading, justify="left" if heading == "target" else "right", no_wrap=True)
    for one in results:
        table.add_row(
            one.target,
            f"{one.cases:,}",
            str(one.crashes),
            str(one.hangs),
            str(one.violations),
            f"{one.slowest_seconds * 1000:.0f} ms",
            f"{one.peak_bytes >> 20} MiB",
            f"{one.seconds:.0f} s",
        )
    Console(width=120).print(table)
    for one in results:
        for kept in one.kept[:20]:
            err.print(kept, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
