"""Whether a demonstration did what it shall: every claim of its end is checked here, on plain values."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.database import DeliveryStatus, InstanceStatus
from worker.reporting.pacs import SendOutcome

Document = Mapping[str, Any]
"""A study as CONTRACT.md shows it."""


@dataclass
class Verdict:
    """What is wrong (the exit status is 1), and what is worth knowing."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def conclusion(self) -> str:
        """Say in one line how it ended."""
        if not self.problems:
            return "done: nothing is pending, every study with a model is complete and delivered"
        count = len(self.problems)
        return f"not done: {'1 problem' if count == 1 else f'{count} problems'}, named above"


def judge(
    documents: Sequence[Document], *, expected: Mapping[str, Collection[str]], routed: Collection[str]
) -> Verdict:
    """Judge the studies at the end.

    Parameters
    ----------
    documents
        All studies.
    expected
        Study Instance UID → what its `ai_status` may be, for those of which it is known.
    routed
        Study Instance UIDs of which at least one instance went to a model.
    """
    verdict = Verdict()
    for missing in expected.keys() - {document["study_instance_uid"] for document in documents}:
        verdict.problems.append(f"study {missing} was sent and is not in the worklist")
    for document in documents:
        uid, status = document["study_instance_uid"], document["ai_status"]
        said = f"study {uid} is {status.replace('_', ' ')}" + (f": {document['reason']}" if document["reason"] else "")
        if status == InstanceStatus.PENDING:
            verdict.problems.append(said)
        elif uid in expected and status not in expected[uid]:
            verdict.problems.append(f"{said} (expected: {' or '.join(sorted(expected[uid]))})")
        elif uid not in expected and uid in routed and status != InstanceStatus.COMPLETE:
            verdict.problems.append(f"{said} (it has a model)")
        elif status == InstanceStatus.FAILED:
            verdict.remarks.append(said + (" (as expected)" if uid in expected else ""))
        if status == InstanceStatus.COMPLETE:
            verdict.problems += _undelivered(document)
    return verdict


def judge_sending(outcomes: Sequence[SendOutcome], *, own_scans: bool) -> Verdict:
    """Judge what became of the files that were pushed.

    Parameters
    ----------
    outcomes
        One for each file.
    own_scans
        Whether they are the caller's: among those, a file that is no DICOM object is worth a remark, and no more as
        long as something was stored.
    """
    refused = [f"{outcome.path}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    if not own_scans:
        return Verdict(problems=refused)
    if len(refused) < len(outcomes):
        return Verdict(remarks=refused)
    return Verdict(problems=[*refused, "nothing that --scans names was stored"])


def newest_reports(document: Document) -> list[Document]:
    """Return the reports of the newest generation."""
    generation = max((report["generation"] for report in document["reports"]), default=0)
    return [report for report in document["reports"] if report["generation"] == generation]


def _undelivered(document: Document) -> list[str]:
    uid, reports = document["study_instance_uid"], newest_reports(document)
    if not reports:
        return [f"study {uid} is complete and has no report"]
    return [
        f"report {report['sop_instance_uid']} of study {uid} is not delivered to {delivery['destination']}: "
        f"{delivery['last_error'] or delivery['status']}"
        for report in reports
        for delivery in report["deliveries"]
        if delivery["status"] != DeliveryStatus.DELIVERED
    ]
