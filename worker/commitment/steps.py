"""Storage commitment beside the journey of a scan (PS3.4 Annex J), both ways.

N-ACTION of a peer ──listener──▶ spool ──intake──▶ owed: read the bytes again ──▶ N-EVENT-REPORT to the peer
delivered report ──▶ owed: N-ACTION to the PACS ··· its N-EVENT-REPORT ──listener──▶ spool ──intake──▶ committed,
or sent again, or shown
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlmodel import Session

from worker.commitment.arrivals import CommitmentArrivals
from worker.commitment.asking import CommitmentAsking
from worker.commitment.report import ADDRESS_SECONDS, CommitmentReport
from worker.config import Credentials, Peer
from worker.database import Database, Delivery, WorkKind, utc_now
from worker.intake.registration import Record
from worker.intake.spool import Spool
from worker.intake.work import Claim, Work
from worker.report_commit import ReportCommit

EVERYBODY = "all"
"""In place of AE titles: every destination is asked."""


@dataclass(frozen=True)
class CommitmentPolicy:
    """Who is answered where, and who is asked.

    Attributes
    ----------
    peers
        Where those that ask us get the result, by AE title.
    ask_of
        AE titles of the destinations that are asked to commit to our reports; `all` stands for every one.
    answer_seconds
        A destination that has not given its result is asked again after so long.
    """

    peers: Mapping[str, Peer] = field(default_factory=dict)
    ask_of: tuple[str, ...] = ()
    answer_seconds: float = 600.0


class Commitments:
    """The steps of storage commitment, each for the service that takes it."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        work: Work,
        record: Record,
        reports: ReportCommit,
        policy: CommitmentPolicy,
        *,
        ae_title: str,
        credentials: Credentials | None,
        stopping: Callable[[], bool],
    ) -> None:
        self.policy = policy
        self.work = work
        self.arrivals = CommitmentArrivals(database, spool, work, record, policy.peers)
        self.reporting = CommitmentReport(
            database,
            spool,
            work,
            record,
            ae_title=ae_title,
            peers=policy.peers,
            credentials=credentials,
            stopping=stopping,
        )
        self.asking = CommitmentAsking(
            database,
            spool,
            work,
            reports,
            ae_title=ae_title,
            credentials=credentials,
            answer_seconds=policy.answer_seconds,
        )
        self.steps: dict[WorkKind, Callable[[Claim], None]] = {
            WorkKind.COMMIT: self.reporting.report,
            WorkKind.ASK_COMMITMENT: self.asking.ask,
        }
        self.give_up: dict[WorkKind, Callable[[Session, int, str], None]] = {
            WorkKind.COMMIT: self.reporting.give_up,
            WorkKind.ASK_COMMITMENT: self.asking.give_up,
        }
        reports.after_delivery.append(self.owe_request)
        reports.before_new_delivery.append(self.asking.begin_anew)

    @property
    def longest_wait_seconds(self) -> float:
        """The longest time for which work of this room is put off."""
        return max(ADDRESS_SECONDS, self.policy.answer_seconds)

    def owe_request(self, session: Session, delivery: Delivery) -> None:
        """Owe the request that a destination answers for what it has just taken, where it is to be asked."""
        if not {EVERYBODY, Peer.parse(delivery.destination).ae_title} & set(self.policy.ask_of):
            return
        delivery.committed = None
        session.add(delivery)
        self.work.owe(
            session,
            WorkKind.ASK_COMMITMENT,
            f"delivery {delivery.id}",
            delivery.id or 0,
            lane=delivery.destination,
            not_before=utc_now(),
        )
