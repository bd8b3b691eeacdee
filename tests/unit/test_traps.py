"""The table of traps is true of the source: `make traps` tries it, which takes minutes; this takes none."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.traps.kinds import Guard, Removal, guard
from tests.traps.table import TRAPS
from tests.traps.tree import TableError, Tree, check

GUARDS = [pytest.param(one, id=f"{trap.number}: {one.says}") for trap in TRAPS for one in trap.guards]


def test_every_trap_is_in_the_table() -> None:
    assert [trap.number for trap in TRAPS][:15] == [str(number) for number in range(1, 16)]
    assert all(trap.guards for trap in TRAPS)


@pytest.mark.parametrize("one", GUARDS)
def test_every_guard_is_where_the_table_says_and_its_tests_are_there(one: Guard) -> None:
    assert one.removals
    assert one.tests
    check(one)


@pytest.mark.parametrize(
    ("file", "text", "test"),
    [
        ("worker/uids.py", "no such text", "tests/unit/test_traps.py::test_every_trap_is_in_the_table"),
        ("worker/uids.py", "\n", "tests/unit/test_traps.py::test_every_trap_is_in_the_table"),
        ("worker/nowhere.py", "import", "tests/unit/test_traps.py::test_every_trap_is_in_the_table"),
        ("worker/uids.py", "def derived_uid(", "tests/unit/test_traps.py::test_that_is_not_there"),
    ],
)
def test_a_table_that_is_out_of_date_says_so(file: str, text: str, test: str) -> None:
    with pytest.raises(TableError, match=r"no such test|found \d+ times"):
        check(guard("nothing", file, text, "", test))


def test_a_guard_is_taken_away_in_a_copy_alone_and_its_test_turns_red(tmp_path: Path) -> None:
    test = "tests/unit/worker/test_uids.py::test_parts_do_not_run_together"
    apart = Removal("worker/uids.py", 'json.dumps(["firstread", *parts])', '"".join(map(str, parts))')
    unimportable = Removal("worker/uids.py", "def derived_uid(", "def taken_away(")
    ours = (ROOT / "worker/uids.py").read_bytes()
    tree = Tree(tmp_path)
    with tree.without([apart]):
        assert tree.run([test]) == {test: "failed"}
    with tree.without([unimportable]):
        assert tree.run([test]) == {test: "missing"}, "it cannot even be imported: that proves nothing"
    assert tree.run([test]) == {test: "passed"}
    assert (ROOT / "worker/uids.py").read_bytes() == ours
