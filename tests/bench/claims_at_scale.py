"""`python -m tests.bench.claims_at_scale`: claims and sweeps on PostgreSQL, 10 to 10,000,000 finished rows.

Takes some minutes and about 5 GB of disk; writes `results/claims.json` and a chart.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.bench.charts import draw_curves
from tests.bench.claims import BATCH, Curve, claim_curve, table_of_its_own
from tests.bench.machine import machine, versions
from tests.faults.postgres import PostgresServer

FOUND = Path(__file__).parent / "results" / "claims.json"
CHART = Path(__file__).parents[2] / "deploy" / "pictures" / "claims"
ROWS, ROUNDS = 10_000_000, 7


def measured(rows: int) -> Curve:
    """Measure on a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="fr-b-") as name:
        server = PostgresServer(Path(name) / "pg")
        try:
            with table_of_its_own(server.url) as work:
                return claim_curve(work, rows, ROUNDS)
        finally:
            server.stop()


def main() -> None:
    """Measure, and write what was found."""
    found = measured(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
    axes = {"x": "rows of finished work", "logarithmic": True}
    curves = {
        "the cost of a claim": {**axes, "y": f"ms a claim of {BATCH}", "lines": {"PostgreSQL": found.points}},
        "the cost of a sweep": {**axes, "y": "ms a sweep", "lines": {"PostgreSQL": found.sweeps}},
    }
    about = {"machine": machine(FOUND.parent), "versions": versions(), "rounds": ROUNDS}
    FOUND.write_text(json.dumps({**about, "curves": curves, "query_plans": found.plans}, indent=1) + "\n")
    draw_curves(curves, CHART)


if __name__ == "__main__":
    main()
