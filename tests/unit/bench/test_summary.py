"""The figures of a benchmark: what they say is what was measured, and a ratio is of the same rounds."""

import pytest

from tests.bench.summary import Seen, percentiles, ratios, rounded, spread


def test_the_median_is_of_the_rounds_with_the_smallest_and_the_largest() -> None:
    found = spread([3.0, 100.0, 1.0, 2.0, 4.0])
    assert (found.median, found.low, found.high) == (3.0, 1.0, 100.0)
    assert found.values == (3.0, 100.0, 1.0, 2.0, 4.0)
    assert spread([1.0, 2.0]).median == 1.5


def test_nothing_measured_has_no_figure() -> None:
    with pytest.raises(ValueError, match="no round"):
        spread([])


def test_a_ratio_is_taken_round_by_round() -> None:
    """Two machines' worth of noise that hits both alike leaves the ratio alone; the ratio of the medians would not."""
    ours, theirs = [10.0, 100.0, 40.0], [20.0, 50.0, 10.0]
    found = ratios(ours, theirs)
    assert (found.median, found.low, found.high) == (2.0, 0.5, 4.0)
    assert found.values == (0.5, 2.0, 4.0)


def test_a_ratio_of_different_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rounds cannot be held against 1"):
        ratios([1.0, 2.0], [1.0])


def test_percentiles_are_linear_between_neighbours() -> None:
    assert percentiles(list(range(101))) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([0.0, 10.0], (50,)) == {"p50": 5.0}


def test_digits_that_mean_nothing_are_not_written() -> None:
    assert rounded(1234.5678) == 1234.6
    assert rounded(0.000123456) == 0.00012346


def test_what_was_seen_is_kept_by_case_contender_and_measure() -> None:
    seen = Seen()
    for ours, theirs in ((10.0, 5.0), (30.0, 10.0)):
        seen.add("CR", "firstread", per_second=ours, cpu_ms=1.0)
        seen.add("CT", "firstread", per_second=1.0)
        seen.add("CR", "Orthanc", per_second=theirs)
    assert list(seen.rows()) == [("CR", "firstread"), ("CR", "Orthanc"), ("CT", "firstread")]
    assert set(seen.measures("CR", "firstread")) == {"per_second", "cpu_ms"}
    found = seen.ratio("CR", "firstread", "Orthanc", "per_second")
    assert found is not None
    assert found.values == (2.0, 3.0)
    across = seen.ratio("CR", "firstread", "firstread", "per_second", other_case="CT")
    assert across is not None
    assert across.values == (10.0, 30.0)
    assert seen.spread("CR", "dcmtk", "per_second") is None
    assert seen.ratio("CR", "firstread", "dcmtk", "per_second") is None
