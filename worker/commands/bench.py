"""`firstread bench …`: how fast it is, here, beside its peers, against its goals.

The benchmark itself is `tests/bench`: it starts real services and peers as the tests do, and measures with what they
measure with. None of that belongs into an installed service, so these commands work from a source checkout.
"""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worker.commands.output import err, out, print_json, tell
from worker.errors import SettingsError
from worker.logs import configure_logs

app = typer.Typer(no_args_is_help=True, help="How fast it is here, beside its peers where they are installed.")

ROOT = Path(__file__).parents[2]
ORTHANC_PYTHON = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
"""Where Debian puts it."""

Rounds = Annotated[int, typer.Option(min=1, help="Counted rounds; one before them warms up.")]
Only = Annotated[list[str] | None, typer.Option(metavar="WORD", help="Cases or contenders with the word; repeatable.")]
Quick = Annotated[bool, typer.Option("--quick", help="Two rounds of small loads: whether it works, not how fast.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.json", help="Write JSON there, charts (PNG, SVG) beside it.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 when a goal is missed; else missed goals are shown.")]
Model = Annotated[
    str, typer.Option(help="NAME or NAME@VERSION; pipeline: or a training recipe, its weights drawn at random.")
]


@app.command()
def receive(
    rounds: Rounds = 5,
    only: Only = None,
    quick: Quick = False,
    scans: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Send DICOM files of your own too.")
    ] = None,
    as_json: AsJson = False,
    out_file: Out = None,
    strict: Strict = False,
) -> None:
    """Measure how fast objects are received: ours, dcmtk, Orthanc, pynetdicom, and what the disk can do at all."""
    _run("receive", as_json, out_file, strict, rounds=rounds, only=tuple(only or ()), quick=quick, scans=scans)


@app.command()
def inference(
    rounds: Rounds = 5,
    only: Only = None,
    quick: Quick = False,
    model: Model = "chest_xray_triage",
    as_json: AsJson = False,
    out_file: Out = None,
    strict: Strict = False,
) -> None:
    """Measure what our step adds to the bare engine, beside Keras's own ways, and what preparing an image costs."""
    _run("inference", as_json, out_file, strict, rounds=rounds, only=tuple(only or ()), quick=quick, model=model)


@app.command()
def pipeline(
    rounds: Rounds = 5,
    only: Only = None,
    quick: Quick = False,
    model: Model = "chest_xray_triage",
    engine: Annotated[str, typer.Option(help="As FIRSTREAD_ENGINE.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Inference processes.")] = 1,
    orthanc_python: Annotated[
        Path, typer.Option(metavar="FILE.so", help="Orthanc's Python plugin (Debian: orthanc-python).")
    ] = ORTHANC_PYTHON,
    as_json: AsJson = False,
    out_file: Out = None,
    strict: Strict = False,
) -> None:
    """Measure from C-STORE to a committed result and to the report at the PACS, idle and under load, beside Orthanc."""
    options = {"model": model, "engine": engine, "workers": workers, "orthanc_python": orthanc_python}
    _run("pipeline", as_json, out_file, strict, rounds=rounds, only=tuple(only or ()), quick=quick, **options)


@app.command()
def queue(
    rounds: Rounds = 5,
    only: Only = None,
    quick: Quick = False,
    rows: Annotated[int, typer.Option(min=10, help="Rows of finished work, up to which claims are timed.")] = 100_000,
    as_json: AsJson = False,
    out_file: Out = None,
    strict: Strict = False,
) -> None:
    """Measure what database and queue cost an image, on SQLite and PostgreSQL, and how the cost of a claim grows."""
    _run("queue", as_json, out_file, strict, rounds=rounds, only=tuple(only or ()), quick=quick, rows=rows)


def _run(benchmark: str, as_json: bool, out_file: Path | None, strict: bool, **options: Any) -> None:
    configure_logs("bench", "json")  # as a service's: writing its lines is part of what is measured
    module = _harness()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(benchmark, total=None)

        def on_step(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total)

        report = module.run(benchmark, on_step, **options)
    if as_json:
        print_json(report.as_json())
    else:
        module.show(report, out)
    if out_file is not None:
        for path in module.write(report, out_file):
            tell(f"written: {path}")
    if strict and report.missed:
        raise typer.Exit(1)


def _harness() -> Any:
    """Import `tests.bench`.

    Raises
    ------
    SettingsError
        This is no source checkout, or not its environment.
    """
    if not (ROOT / "tests" / "bench" / "run.py").is_file():
        raise SettingsError("the benchmark needs a source checkout, with its tests: there, say `make bench`")
    sys.path.insert(0, str(ROOT))  # before site-packages, where others leave a `tests` of theirs
    try:
        return importlib.import_module("tests.bench.run")
    except ModuleNotFoundError as error:
        raise SettingsError(f"the benchmark needs {error.name}: `make env` makes its environment") from None
