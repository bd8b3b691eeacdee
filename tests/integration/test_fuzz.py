"""A share of the fuzzing in every run of the suite, always the same cases; and the fuzzer finds what is planted."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import NAME
from tests.fuzz.mutation import Mutation, elements, mutate, mutations
from tests.fuzz.runner import ROOT, Runner, replay
from tests.fuzz.targets import Target, Violation, opened, speaks_of_nobody

CHOICES = st.integers(0, 2**16 - 1)


def share(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@pytest.fixture(scope="module", params=["part 10", "headers", "pixels", "codestreams"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with opened(request.param) as target:
        yield target


@pytest.mark.filterwarnings("ignore")  # pydicom's remarks about single values, which the children silence
@given(choice=CHOICES, steps=mutations())
@share(80)
def test_what_reads_strangers_objects_holds(target: Target, choice: int, steps: Sequence[Mutation]) -> None:
    target.run(target.made(choice, steps))


@pytest.mark.filterwarnings("ignore")
def test_registration_holds() -> None:
    with opened("registration") as target:

        @given(choice=CHOICES, steps=mutations())
        @share(100)
        def spooled(choice: int, steps: Sequence[Mutation]) -> None:
            target.run(target.made(choice, steps))

        spooled()
        target.finish()


def test_what_is_planted_is_found_kept_and_found_again(tmp_path: Path) -> None:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count

    runner = Runner(seed=1, keep=tmp_path / "kept", hang_seconds=8, most_seconds=250)
    result = runner.run("planted", 10, advance)
    assert (result.cases, result.crashes, result.hangs, result.violations) == (10, 1, 1, 1)
    assert not result.clean
    words = "\n".join(result.kept)
    assert "planted-1-3.case: the process ended by SIGABRT" in words
    assert "planted-1-5.case: it took longer than 8 seconds" in words
    assert "planted-1-7.case: a message names the patient" in words
    assert "names the patient" in str(replay(tmp_path / "kept" / "planted-1-7.case"))


def test_the_command_counts_cases_and_says_so_in_json() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "20", "--target", "headers", "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=240, check=True)
    (result,) = json.loads(ran.stdout)
    assert (result["target"], result["cases"], result["crashes"], result["hangs"]) == ("headers", 20, 0, 0)
    assert 0 < result["peak_bytes"] < 1 << 30


def test_coverage_leads_where_atheris_is(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.fuzz", "--coverage", "--target", "headers", "--cases", "60", "--json"]
    command += ["--keep", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=280, check=False)
    (result,) = json.loads(ran.stdout)
    assert result["kept"] == []
    assert result["cases"] >= 60
    assert ran.returncode == 0


@pytest.mark.parametrize("words", [f"cannot read {NAME}", "zzyzx", "of QQ-secret-77"])
def test_a_name_in_a_message_is_seen(words: str) -> None:
    with pytest.raises(Violation, match="names the patient"):
        speaks_of_nobody(words)
    speaks_of_nobody("the object is cut off")


def test_mutations_know_where_elements_are() -> None:
    body = b"\x08\x00\x60\x00CS\x02\x00DX\x10\x00\x10\x00PN\x04\x00A^B " + b"\x09\x00\x00\x00\x02\x00\x00\x00xx"
    assert elements(body) == [(0, 6, 2), (10, 16, 2), (22, 26, 4)]
    longer = mutate(body, [Mutation("length", 1, 12, b"")])
    assert longer[16:18] == b"\xff\xff"
    assert mutate(body, [Mutation("cut", 5, 0, b"")], start=3) == body[:8]
