"""Between two sweeps a report is hinted at when its study has been quiet, not up to a sweep later."""

from datetime import timedelta
from pathlib import Path

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, RecordingWakeups, make_pipeline
from tests.support.objects import film, spool_object
from worker.database import WorkKind, utc_now


def test_a_report_is_hinted_at_when_it_becomes_due_and_once(database_url: str, tmp_path: Path) -> None:
    wakeups, ahead = RecordingWakeups(), timedelta()
    pipeline = make_pipeline(
        database_url, tmp_path, quiet_seconds=100.0, wakeups=wakeups, clock=lambda: utc_now() + ahead
    )  # type: ignore[arg-type]
    spool_object(pipeline.spool, film())
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    with pipeline.database.write() as session:
        pipeline.work.owe(session, WorkKind.DELIVER, "delivery 1", 1, not_before=pipeline.work.clock())
    pipeline.sweep()
    wakeups.sent.clear()
    pipeline.hint_when_due()
    assert wakeups.sent == []
    ahead = timedelta(seconds=120)
    pipeline.hint_when_due()
    pipeline.hint_when_due()
    assert wakeups.sent == [{"delivery"}]
    assert pipeline.report() == 1
    pipeline.database.dispose()


def test_with_nothing_to_wait_for_nothing_is_hinted_at(database_url: str, tmp_path: Path) -> None:
    wakeups = RecordingWakeups()
    pipeline = make_pipeline(database_url, tmp_path, wakeups=wakeups)  # type: ignore[arg-type]
    pipeline.sweep()
    wakeups.sent.clear()
    pipeline.hint_when_due()
    assert wakeups.sent == []
    pipeline.database.dispose()
