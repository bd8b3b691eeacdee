"""A small part of the fault campaign, on both databases; `make faults` is the whole of it."""

import pytest

from tests.faults.campaign import Campaign, all_scenarios, chosen
from tests.faults.injected import POINTS

HELD = ("intake killed after registration commit", "delivery killed after the PACS accepted", "resent, identical")
SABOTAGE = ("sabotage: an accepted file removed", "sabotage: a report doubled")


@pytest.mark.timeout(600)
def test_faults_are_borne_and_the_judge_sees_what_is_not() -> None:
    """Nothing is lost and nothing doubled; where a hand removes a file or doubles a report, the judge says so."""
    campaign = Campaign(chosen([*HELD, *SABOTAGE]), minutes=4)
    campaign.run()
    rows = {(result.fault, result.database): result for result in campaign.results}
    assert len(rows) == campaign.rows() == 10
    for database in ("sqlite", "postgresql"):
        for fault in HELD:
            result = rows[fault, database]
            assert (result.outcome, result.why) == ("held", [])
            assert result.times > 0
            assert result.acknowledged > 0
            assert (result.lost, result.doubled, result.unaccounted) == (0, 0, 0)
        removed, doubled = (rows[fault, database] for fault in SABOTAGE)
        assert (removed.outcome, removed.lost, removed.unaccounted) == ("broken", 1, 1)
        assert (doubled.outcome, doubled.doubled) == ("broken", 1)
    assert not campaign.ok()


def test_every_point_has_a_row_on_some_database_and_every_family_on_both() -> None:
    scenarios = [scenario for scenario in all_scenarios() if not scenario.hidden]
    names = [scenario.name for scenario in scenarios]
    assert len(names) == len(set(names))
    for service, points in POINTS.items():
        for point in points:
            assert f"{service} killed {point}" in names or point == "at the poison"
    for family in {scenario.family for scenario in scenarios}:
        tried = {database for scenario in scenarios if scenario.family == family for database in scenario.databases}
        assert tried == {"sqlite", "postgresql"}
