"""What a worker that was killed in the middle of a report has left is removed when the report is made."""

from pathlib import Path

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from worker.database import WorkKind


def test_partial_reports_of_killed_workers_do_not_pile_up(tmp_path: Path) -> None:
    pipeline = make_pipeline(f"sqlite:///{tmp_path / 'firstread.db'}", tmp_path)
    spool_object(pipeline.spool, film())
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    with pipeline.database.write() as session:
        (item,) = pipeline.work.claim(WorkKind.REPORT)
        pipeline.work.put_off(session, item, "its worker was killed", seconds=0)
    folder = pipeline.reports.reports_dir / f"{item.subject_id:08d}"
    folder.mkdir()
    left = [folder / f".{item.id}-{item.token}.part", folder / f"..{item.id}-{item.token}.part.4711.part"]
    other = folder / f".{item.id}1-1.part"
    for path in (*left, other):
        path.write_bytes(b"half a report")
    assert pipeline.report() == 1
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".part") == [other.name]
    assert len(list(folder.glob("0001-*.dcm"))) == 1
    pipeline.database.dispose()
