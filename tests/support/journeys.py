"""Films that go the whole way through the real services, and what must be true when they have arrived."""

from pathlib import Path

import pydicom

from tests.support.objects import film, save
from tests.support.peers import Storescp
from tests.support.stack import Stack


def films(folder: Path, count: int, *, marked: tuple[int, str] | None = None) -> list[Path]:
    """Write films, each a study of its own; `marked` gives one of them, by number, a Patient ID of its own."""
    folder.mkdir(exist_ok=True)
    names = dict([marked] if marked else [])
    return [save(film(PatientID=names.get(n, f"P{n}")), folder / f"{n}.dcm") for n in range(count)]


def delivered(stack: Stack, count: int) -> bool:
    """Whether so many deliveries are done."""
    reports = [report for study in stack.listed() for report in study["reports"]]
    return sum(d["status"] == "delivered" for r in reports for d in r["deliveries"]) == count


def assert_each_once(stack: Stack, pacs: Storescp, count: int) -> None:
    """Every study is complete and has one report, which the PACS got; and the sum is right."""
    studies = stack.studies()
    assert [study["ai_status"] for study in studies] == ["complete"] * count
    assert_reports_held(stack, pacs, count)


def assert_reports_held(stack: Stack, pacs: Storescp, count: int) -> None:
    """There is one report a study, what the PACS got is these reports and no more, and `reconcile` is content."""
    uids = [report["sop_instance_uid"] for study in stack.studies() for report in study["reports"]]
    assert len(uids) == count, "one report a study"
    assert sorted(str(pydicom.dcmread(path).SOPInstanceUID) for path in pacs.held()) == sorted(uids)
    done = stack.run("reconcile", "--verify", "--json")
    assert done.returncode == 0, done.stdout
