"""One image at idle, full buckets under load, never more than the time for a batch allows."""

import pytest

from worker.inference.batch_size import BatchSize, bucket_within


def asked(size: BatchSize, *waiting: int) -> list[int]:
    """Return what is asked for while so many wait, one claim after the other."""
    seen = []
    for count in waiting:
        wanted = size.wanted
        seen.append(wanted)
        size.found(wanted, min(wanted, count))
    return seen


def test_a_backlog_fills_the_largest_bucket_at_once() -> None:
    assert asked(BatchSize(32, seconds=0), 1000, 1000) == [32, 32]


def test_after_quiet_times_a_burst_is_begun_small_and_doubled() -> None:
    assert asked(BatchSize(32, seconds=0), 1, 1000, 1000, 1000, 1000, 1000, 1000) == [32, 1, 2, 4, 8, 16, 32]


def test_as_few_are_asked_for_as_were_found_but_none_of_the_decoders_stands_idle() -> None:
    assert asked(BatchSize(32, seconds=0, side_by_side=4), 6, 3, 0, 9) == [32, 6, 4, 4]


@pytest.mark.parametrize(
    ("image_seconds", "allowed"), [(0.001, 32), (0.031, 32), (0.04, 16), (0.13, 4), (0.6, 1), (70.0, 1)]
)
def test_a_batch_is_no_larger_than_its_time_allows(image_seconds: float, allowed: int) -> None:
    size = BatchSize(32, seconds=1.0)
    assert size.wanted == 32, "nobody knows yet how long an image takes"
    size.lasted(8, 6 * image_seconds, 2 * image_seconds)
    assert (size.allowed, size.wanted) == (allowed, allowed)


def test_without_a_limit_buckets_are_full_however_long_they_take() -> None:
    size = BatchSize(32, seconds=0)
    size.lasted(1, 90.0, 10.0)
    assert size.wanted == 32


def test_what_is_decoded_side_by_side_takes_the_time_of_one() -> None:
    """Large images, many decoders: were each thought to take its time by itself, batches would stay at one for ever."""
    size = BatchSize(32, seconds=1.0, side_by_side=8)
    size.lasted(1, 0.6, 0.01)
    assert size.allowed == 8
    size.lasted(8, 0.6, 0.08)
    assert size.allowed == 8
    for _ in range(20):
        size.lasted(8, 0.2, 0.08)
    assert size.allowed == 16


def test_one_slow_batch_does_not_decide_alone_and_many_do() -> None:
    size = BatchSize(32, seconds=1.0)
    size.lasted(32, 0.16, 0.16)
    size.lasted(1, 0.02, 0.03)
    assert size.wanted == 32
    for _ in range(20):
        size.lasted(1, 0.02, 0.03)
    assert size.wanted == 16


def test_more_than_the_classifier_takes_is_never_asked_for() -> None:
    assert asked(BatchSize(3, seconds=0, side_by_side=8), 9, 1, 9) == [3, 3, 3]


@pytest.mark.parametrize(("count", "bucket"), [(1, 1), (2, 2), (3, 2), (31, 16), (32, 32), (33, 32)])
def test_buckets_are_powers_of_two(count: int, bucket: int) -> None:
    assert bucket_within(count) == bucket
