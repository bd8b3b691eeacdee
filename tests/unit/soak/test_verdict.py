"""The verdict of the soak sees what grows, what leaks and what dies; a verdict that cannot fail proves nothing."""

import os
import sys

import pytest

from tests.soak.picture import draw
from tests.soak.verdict import judge
from tests.soak.watch import Sample, Watch, role

WARM_UP, END = 60.0, 600.0


def samples(memory=lambda _: 100.0, descriptors=lambda _: 10, begin: int = 0, end: int = 600) -> list[Sample]:
    return [Sample(float(t), memory(t), descriptors(t), 4) for t in range(begin, end + 1, 5)]


def flat(found: list[Sample]) -> bool:
    (row,) = judge({"intake 7": found}, WARM_UP, END)
    return row.flat


def test_what_is_flat_is_flat_whatever_the_warm_up_took() -> None:
    assert flat(samples(memory=lambda t: 100.0 if t >= WARM_UP else t))
    assert flat(samples(memory=lambda t: 100.0 + 9 * (t - WARM_UP) / (END - WARM_UP)))


def test_memory_that_grows_by_more_than_a_tenth_is_seen() -> None:
    assert not flat(samples(memory=lambda t: 100.0 + 15 * (t - WARM_UP) / (END - WARM_UP)))


def test_descriptors_that_leak_are_seen() -> None:
    assert not flat(samples(descriptors=lambda t: 10 + t // 100))


def test_a_process_that_died_or_was_started_again_is_seen() -> None:
    assert not flat(samples(end=300))
    assert not flat(samples(begin=300))


def test_a_helper_of_a_moment_does_not_count_and_nothing_at_all_is_no_verdict() -> None:
    assert len(judge({"intake 7": samples(), "redis 9": samples(begin=300, end=305)}, WARM_UP, END)) == 1
    with pytest.raises(ValueError, match="no process was seen"):
        judge({}, WARM_UP, END)


def test_a_real_process_is_looked_at_and_its_files_are_counted(tmp_path) -> None:
    watch = Watch(os.getpid(), (tmp_path,))
    watch.look()
    (tmp_path / "left").touch()
    watch.look()
    (found,) = [taken for name, taken in watch.processes.items() if name.endswith(f" {os.getpid()}")]
    assert found[0].memory_mib > 1
    assert found[0].descriptors >= 3
    assert [count for _, count in watch.files] == [0, 1]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "-m", "worker.cli", "worker", "--queues", "delivery"], "delivery"),
        (["python", "-m", "worker.cli", "listener", "--no-intake"], "listener"),
        (["/x/redis-server unixsocket:/r"], "redis"),
        ([sys.executable, "-P", "-m", "worker.inference.decoder", "--socket=5"], "guarded child"),
        ([sys.executable, "-P", "-m", "worker.intake.header_child", "--socket=5"], "guarded child"),
        ([], "ended"),
    ],
)
def test_processes_are_told_by_their_command_line(command: list[str], expected: str) -> None:
    assert role(command) == expected


def test_the_picture_names_every_process(tmp_path) -> None:
    draw({"intake 7": samples(), "delivery 8": samples()}, WARM_UP, tmp_path / "soak.html")
    page = (tmp_path / "soak.html").read_text()
    assert page.count("<svg") == 2
    assert "intake" in page
    assert "delivery" in page
