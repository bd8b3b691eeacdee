"""What is known of a request before its data set comes, and what of it may be logged."""

from dataclasses import dataclass

from worker.uids import is_uid


@dataclass(frozen=True, slots=True)
class Request:
    """A request about one SOP instance, as its command set and its association describe it (PS3.7 9.1.1.1, 10.1).

    Attributes
    ----------
    abstract_syntax_uid
        What the presentation context was negotiated for.
    association
        Number of the association, to find its lines in the log.
    """

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    called_ae: str
    association: int
    has_data_set: bool = True


def shown(uid: str) -> str:
    """Return a UID for the log; what a peer sent in its place is not repeated, only its length."""
    return uid if is_uid(uid) else f"<no UID, {len(uid)} characters>"
