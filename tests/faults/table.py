"""What the campaign shows: progress while it runs, one table at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.campaign import Campaign
from tests.faults.trial import Result

STYLES = {"held": "green", "broken": "bold red", "not run": "yellow", "not here": "yellow"}


@contextmanager
def progress(console: Console, campaign: Campaign) -> Iterator[None]:
    """Show what is being tried; each result is a line as it comes."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("starting", total=campaign.rows())

        def tell(result: Result) -> None:
            trying = " · ".join(f"{database}: {name}" for database, name in campaign.now.items())
            shown.update(task, advance=1, description=trying[:100])
            line = f"{result.outcome:<8} {result.seconds:6.1f} s  {result.database:<10} {result.fault}"
            shown.console.print(line, style=STYLES[result.outcome], markup=False, highlight=False, soft_wrap=True)
            for why in result.why:
                shown.console.print(f"         {why}", markup=False, highlight=False, soft_wrap=True)

        campaign.tell = tell
        yield


def table(results: list[Result]) -> Table:
    """One row a fault and database."""
    made = Table(title="The fault campaign: nothing lost, nothing twice", show_lines=False)
    for name in ("fault", "on"):
        made.add_column(name, overflow="fold")
    for name in ("times", "acknowledged", "lost", "doubled", "reconcile", "recovery s"):
        made.add_column(name, justify="right")
    made.add_column("outcome")
    family = ""
    for result in results:
        if result.family != family:
            family = result.family
            made.add_section()
            made.add_row(f"[bold]{family}[/bold]")
        tried = result.outcome in {"held", "broken"}
        numbers = (result.times, result.acknowledged, result.lost, result.doubled, result.unaccounted)
        recovery = "-" if result.recovery_seconds is None else f"{result.recovery_seconds:.1f}"
        cells = [*(str(number) if tried else "-" for number in numbers), recovery]
        words = result.outcome if tried else f"{result.outcome}: {result.why[0]}"
        made.add_row(result.fault, result.database, *cells, f"[{STYLES[result.outcome]}]{words}")
    return made
