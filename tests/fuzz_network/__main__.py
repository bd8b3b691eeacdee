"""`python -m tests.fuzz_network [--cases N] [--seed N] [--json]`: spoiled conversations with the real listener.

Exit 0 when everything held, 1 when something broke: it is named, with the number of the case, which is the same again
with the same seed.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz_network.campaign import MEBIBYTE, Campaign, Result
from tests.support.listener_process import ListenerProcess

ENDS = ("released", "rejected", "aborted", "closed", "no end")


def shown(result: Result) -> Table:
    """Return the table for people."""
    table = Table("kind", "cases", *ENDS, title="Spoiled conversations, and how the listener ended them")
    for kind, ended in sorted(result.ended.items()):
        table.add_row(kind, str(ended.total()), *(str(ended[end]) for end in ENDS))
    return table


def main() -> int:
    """Run, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_network", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", type=int, default=8, help="conversations at once")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="fr-fuzz-") as directory,
        ListenerProcess(Path(directory) / "data") as listener,
    ):
        campaign = Campaign(listener, seed=options.seed, peers=options.peers)
        result = campaign.run(options.first, options.cases)
    if options.json:
        sys.stdout.write(json.dumps(asdict(result), indent=1) + "\n")
    else:
        console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
        console.print(shown(result))
        before, peak = result.rss_before // MEBIBYTE, result.rss_peak // MEBIBYTE
        console.print(f"{result.cases} cases in {result.seconds:.0f} s, seed {options.seed}")
        console.print(f"{result.acknowledged} objects of theirs answered with success, all in the spool")
        console.print(f"{result.good} of a good sender meanwhile, the slowest in {result.slowest_good_seconds:.2f} s")
        console.print(f"RSS {before} MiB before, {peak} MiB at its peak; {result.log_lines} lines of log")
        for what in result.broken[:50]:
            console.print(f"BROKEN: {what}")
        console.print("everything held" if not result.broken else f"{len(result.broken)} things broke")
    return 1 if result.broken else 0


if __name__ == "__main__":
    sys.exit(main())
