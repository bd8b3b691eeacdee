"""The real intake runs retention by itself."""

from datetime import timedelta
from pathlib import Path

from sqlmodel import select

from tests.support.backups import work_off
from tests.support.fakes import make_pipeline
from tests.support.objects import film, spool_object
from tests.support.stack import Stack
from worker.database import Study, utc_now


def test_intake_removes_what_is_old_enough_and_goes_on_registering(tmp_path: Path) -> None:
    pipeline = make_pipeline(f"sqlite:///{tmp_path}/firstread.db", tmp_path)
    spool_object(pipeline.spool, film())
    work_off(pipeline)
    with pipeline.database.write() as session:
        session.exec(select(Study)).one().last_received_at = utc_now() - timedelta(days=8)
    spool_object(pipeline.spool, film())
    with Stack(tmp_path, retention_days=7) as stack:
        stack.start("intake")
        stack.wait(lambda: '"bytes_removed"' in stack.log("intake"), 60, "retention to run")
        stack.wait(lambda: not pipeline.spool.arrivals(), 60, "the arrival to be registered")
        assert stack.stop("intake") == 0
    assert len(list(pipeline.spool.filed())) == 1
    pipeline.database.dispose()
