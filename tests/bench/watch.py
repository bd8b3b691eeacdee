"""Looks into our database from outside for what has been committed; it only reads, and seldom more than a counter."""

import sqlite3
import time
from pathlib import Path

_RESULTS = "SELECT p.id, i.sop_instance_uid FROM prediction p JOIN instance i ON i.id = p.instance_id WHERE p.id > ?"
_REPORTS = (
    "SELECT DISTINCT s.study_instance_uid FROM delivery d JOIN report r ON r.id = d.report_id"
    " JOIN study s ON s.id = r.study_id WHERE d.status = 'delivered'"
)


class Watch:
    """Writes down when a result, and when the delivery of a report, was first seen committed.

    Parameters
    ----------
    results, reports
        By SOP and by Study Instance UID; filled with moments of `time.perf_counter`.
    """

    def __init__(self, database: Path, results: dict[str, float], reports: dict[str, float]) -> None:
        self._database, self._results, self._reports = database, results, reports
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._newest = 0

    def open(self, seconds: float) -> None:
        """Wait until the services have made their tables."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, isolation_level=None)
                self.instances()
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()

    def instances(self) -> int:
        """Count the instances that are registered."""
        return int(self._ask("SELECT count(*) FROM instance")[0][0])

    def look(self) -> None:
        """See what is new; where nobody has written since, that costs microseconds."""
        version = self._ask("PRAGMA data_version")[0][0]
        if version == self._version:
            return
        self._version = version
        found = self._ask(_RESULTS, self._newest)
        now = time.perf_counter()
        for number, uid in found:
            self._newest = max(self._newest, number)
            self._results.setdefault(uid, now)
        delivered = self._ask(_REPORTS)
        now = time.perf_counter()
        for (uid,) in delivered:
            self._reports.setdefault(uid, now)

    def _ask(self, query: str, *values: object) -> list[tuple]:
        assert self._connection is not None
        return self._connection.execute(query, values).fetchall()
