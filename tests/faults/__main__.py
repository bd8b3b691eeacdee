"""The fault campaign: `python -m tests.faults`, `make faults`."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from tests.faults.campaign import Campaign, all_scenarios, chosen
from tests.faults.table import progress, table
from tests.faults.trial import BOTH


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 0: every row held, 1: one did not or was not run, 2: bad usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what is drawn at random is drawn from this")
    parser.add_argument("--minutes", type=float, default=15.0, help="after so long nothing is begun any more")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="scenarios with a word in their name")
    parser.add_argument("--database", choices=(*BOTH, "both"), default="both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row there too")
    parser.add_argument("--list", action="store_true", help="show the scenarios and end")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    if options.list:
        for scenario in all_scenarios():
            hidden = "  (only when named)" if scenario.hidden else ""
            console.print(
                f"{scenario.family:<20} {scenario.name}  [{', '.join(scenario.databases)}]{hidden}", markup=False
            )
        return 0
    try:
        scenarios = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    for name in [name for name in os.environ if name.startswith("FIRSTREAD_")]:
        del os.environ[name]
    databases = BOTH if options.database == "both" else (options.database,)
    campaign = Campaign(scenarios, databases, options.seed, options.minutes)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: campaign.stop.set())
    with progress(console, campaign):
        campaign.run()
    order = {scenario.name: place for place, scenario in enumerate(scenarios)}
    campaign.results.sort(key=lambda result: (order[result.fault], result.database))
    console.print(table(campaign.results))
    held = sum(result.outcome == "held" for result in campaign.results)
    console.print(f"seed {options.seed}: {held} of {len(campaign.results)} rows held, {campaign.seconds:.0f} s")
    if options.json:
        document = {
            "seed": options.seed,
            "seconds": campaign.seconds,
            "ok": campaign.ok(),
            "rows": [result.as_json() for result in campaign.results],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if campaign.ok() else 1


if __name__ == "__main__":
    sys.exit(main())
