"""Predictions, instances and reports that were edited, deleted or slipped in are named, and what was done to them."""

from pathlib import Path

import pytest

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_bytes, spool_object
from tests.support.tampering import execute, unguarded
from worker.audit.anchor import AnchorFile
from worker.audit.verify import Verification, verify
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(database_url: str, tmp_path: Path):
    """Two studies, classified and reported, one of them twice."""
    made = make_pipeline(database_url, tmp_path)
    for _ in range(2):
        spool_object(made.spool, film())
    made.register_arrivals()
    made.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    made.report()
    from worker.operations import reprocess
    from worker.studies import StudyFilter, list_studies

    with made.database.read() as session:
        uid = list_studies(session, StudyFilter())[0]["study_instance_uid"]
    reprocess(made, uid)
    made.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    made.report()
    yield made
    made.database.dispose()


def verified(pipeline: Pipeline, *, files: bool = False) -> Verification:
    reports = pipeline.reports.reports_dir

    def locate(table: str, place: str) -> Path | None:
        path = pipeline.spool.path(place) if table == "instance" else reports / place
        return path if path and path.is_file() else None

    return verify(pipeline.database, AnchorFile(reports / "none"), locate=locate if files else None)


def found(result: Verification) -> list[tuple[str, int | str, str]]:
    return [(finding.table, finding.row, finding.what.split()[0]) for finding in result.findings]


def test_what_nobody_touched_is_as_the_chain_says(pipeline: Pipeline) -> None:
    result = verified(pipeline, files=True)
    assert result.findings == []
    assert result.rows == {"instance": 2, "prediction": 2, "report": 2}


@pytest.mark.parametrize(
    ("statement", "table", "field"),
    [
        ("UPDATE prediction SET probabilities = '{\"normal\": 1.0}' WHERE id = 1", "prediction", "probabilities"),
        ("UPDATE prediction SET flagged = '[]' WHERE id = 2", "prediction", "flagged"),
        ("UPDATE prediction SET recipe = 'other' WHERE id = 2", "prediction", "recipe"),
        ("UPDATE prediction SET thresholds = '{}' WHERE id = 2", "prediction", "thresholds"),
        ("UPDATE prediction SET environment = '{}' WHERE id = 2", "prediction", "environment"),
        ("UPDATE model_version SET weights_sha256 = 'f' WHERE id = 1", "prediction", "weights_sha256"),
        ("UPDATE instance SET sha256 = 'f' WHERE id = 2", "instance", "sha256"),
        ("UPDATE instance SET calling_ae = 'OTHER' WHERE id = 2", "instance", "calling_ae"),
        ("UPDATE study SET study_instance_uid = '1.2' WHERE id = 2", "instance", "study"),
    ],
)
def test_an_edited_row(pipeline: Pipeline, statement: str, table: str, field: str) -> None:
    execute(pipeline.database, statement)
    result = verified(pipeline)
    assert (table, field) in {(finding[0], finding[2]) for finding in found(result)}
    assert "the chain says" in str(result.findings[0])


def test_an_edited_report(pipeline: Pipeline) -> None:
    execute(pipeline.database, "UPDATE report SET sha256 = 'f' WHERE id = 1")
    (finding,) = verified(pipeline).findings
    assert (finding.table, finding.what.split()[0]) == ("report", "sha256")


def test_a_deleted_and_a_slipped_in_row(pipeline: Pipeline) -> None:
    execute(pipeline.database, "UPDATE prediction SET id = 77 WHERE id = 1")
    assert found(verified(pipeline)) == [("prediction", 77, "the"), ("prediction", 1, "event")]


def test_json_that_is_none_is_named_and_no_traceback(pipeline: Pipeline) -> None:
    if pipeline.database.is_sqlite:  # PostgreSQL takes none
        execute(pipeline.database, "UPDATE prediction SET probabilities = 'x{' WHERE id = 1")
        assert found(verified(pipeline)) == [("prediction", 1, "probabilities")]


def test_stored_bytes_are_read_when_asked(pipeline: Pipeline) -> None:
    first, second = sorted(pipeline.spool.filed())
    path = pipeline.spool.filed_path(first)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    pipeline.spool.filed_path(second).unlink()
    assert verified(pipeline).findings == []
    assert sorted(found(verified(pipeline, files=True))) == [("instance", 1, "its"), ("instance", 2, "its")]


def test_bytes_that_retention_removed_are_no_finding_and_others_that_are_gone_are(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """What counts is the chain: a row that says "removed" where no event does excuses nothing."""
    from datetime import timedelta

    from worker.database import utc_now
    from worker.retention.removal import Retention

    rule = Retention(
        pipeline.database, pipeline.spool, pipeline.previews_dir, pipeline.record,
        days=30, floor_bytes=0, clock=lambda: utc_now() + timedelta(days=40),
    )  # fmt: skip
    (_, second) = sorted(pipeline.spool.filed())
    kept = pipeline.spool.filed_path(second).read_bytes()
    assert len(list(rule.run())) == 2
    assert found(verified(pipeline, files=True)) == []
    again = spool_bytes(pipeline.spool, kept)
    pipeline.register_arrivals()
    assert found(verified(pipeline, files=True)) == []
    pipeline.spool.filed_path(again).write_bytes(kept[:-1] + b"x")
    assert found(verified(pipeline, files=True)) == [("instance", 2, "its")], "what came back is to be there again"
    unguarded(pipeline.database)
    execute(pipeline.database, "UPDATE audit_event SET action = 'bytes.kept' WHERE action = 'bytes.removed'")
    gone = [one for one in found(verified(pipeline, files=True)) if one[0] == "instance"]
    assert gone == [("instance", 1, "its"), ("instance", 2, "its")]
