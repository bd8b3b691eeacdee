"""`firstread audit replay`: a prediction once more, from the recorded bytes with the recorded weights."""

from typing import Annotated, Any

import typer

from worker import bootstrap
from worker.audit.replay import Replay
from worker.audit.replay import replay as replay_prediction
from worker.commands.model_common import model_settings
from worker.commands.output import complain, print_json, print_table, say, tell
from worker.intake.spool import Spool


def replay(
    prediction_id: Annotated[int, typer.Argument(metavar="PREDICTION_ID", help="As `audit export` shows it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a prediction again: equal within the card's tolerance, or what differs."""
    settings = model_settings()
    registry = bootstrap.model_registry(settings)

    def load(model: str, engine: str) -> Any:
        from models.classifier import Classifier
        from models.engines.choice import can_run

        package = registry.find(model)
        return Classifier.load(
            package, engine=engine if can_run(package, engine) else settings.engine, threads=settings.engine_threads
        )

    from worker.inference.pixels import PixelReader
    from worker.inference.rerun import Rerunner

    database = bootstrap.open_database(settings)
    with PixelReader(seconds=settings.decode_seconds, memory_bytes=settings.decode_bytes) as reader:
        rerunner = Rerunner(load, reader)
        result = replay_prediction(database, prediction_id, Spool(settings.spool_dir).path, rerunner.run)
    if as_json:
        print_json(result.as_json())
    else:
        _say(result)
    raise typer.Exit(0 if result.equal else 1)


def _say(result: Replay) -> None:
    found = result.found or {}
    rows = [(name, f"{value:.6f}", _number(found.get(name))) for name, value in result.recorded.items()]
    print_table(f"prediction {result.prediction}, {result.model}", ("label", "recorded", "now"), rows)
    say(f"instance {result.sop_instance_uid} of study {result.study_instance_uid}")
    for remark in result.remarks:
        tell(f"note: {remark.words}")
    for difference in result.differences:
        complain(f"{difference.what}: {difference.words}")
        if difference.recorded is not None or difference.found is not None:
            complain(f"  recorded {difference.recorded}, now {difference.found}")
    if result.equal and not result.tolerance:
        say("equal to the bit")
    elif result.equal:
        say(f"equal: the largest difference is {result.difference:.2g}, the card allows {result.tolerance:g}")
    else:
        say("NOT EQUAL")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
