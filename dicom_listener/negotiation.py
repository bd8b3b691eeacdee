"""Which presentation contexts are accepted (PS3.8 9.3.2.2, PS3.4 B.3).

Storage of everything, in every encoding: an object that nothing here can decode is better kept and shown as failed
than refused where nobody looks.
"""

from collections.abc import Iterable, Sequence

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from worker.commitment.message import TRANSFER_SYNTAXES
from worker.uids import is_uid

STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
"""New Storage SOP Classes are numbered below this, also those that this release has not heard of."""
TRANSFER_SYNTAX_ROOT = "1.2.840.10008.1.2."

_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_NEVER_STORED = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory: a DICOMDIR is written, not sent
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model: served, but not by C-STORE
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    }
)
_NOT_FOR_DATA_SETS = (
    "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME encapsulation
    "1.2.840.10008.1.2.6.2",  # XML Encoding
    "1.2.840.10008.1.2.7.",  # SMPTE ST 2110: real-time video streams, never on an association
)


def is_storage(uid: str) -> bool:
    """Say whether a SOP Class is stored here: every Storage class of the Standard, current or retired, and any private.

    What a private class stands for cannot be known; that it is sent in a C-STORE says enough.
    """
    if uid in _STORAGE:
        return True
    if uid in _NEVER_STORED or not is_uid(uid):
        return False
    known = UID(uid)
    if known.is_private:
        return True
    if known.type:
        return known.type == "SOP Class" and "Storage" in known.name
    return uid.startswith(STORAGE_ROOT)


def choose_transfer_syntax(proposed: Sequence[str]) -> str | None:
    """Return the transfer syntax accepted out of those proposed for one context, or None.

    The first that the Standard defines for data sets; where there is none, the first private one or one of a later
    edition of the Standard: its bytes are kept too.
    """
    usable = [uid for uid in proposed if is_uid(uid) and not uid.startswith(_NOT_FOR_DATA_SETS)]
    for uid in usable:
        known = UID(uid)
        if not known.is_private and known.type == "Transfer Syntax":
            return uid
    return next((uid for uid in usable if UID(uid).is_private or uid.startswith(TRANSFER_SYNTAX_ROOT)), None)


def supported(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Narrow each proposed context to the transfer syntax that will be accepted; return what we support of them.

    pynetdicom picks by the acceptor's order of preference. With one transfer syntax left in a proposal there is
    nothing to prefer, and the sender's own order counts: no sender has to transcode because of us. A context without
    an acceptable transfer syntax is left as it is, and rejected (result 4) because we support none of it.

    Parameters
    ----------
    proposed
        The presentation contexts of an A-ASSOCIATE request; changed in place.

    Returns
    -------
    list of PresentationContext
        One for each abstract syntax that we serve, with all transfer syntaxes chosen for it.
    """
    chosen: dict[str, list[str]] = {}
    for context in proposed:
        abstract_syntax = str(context.abstract_syntax)
        commitment = abstract_syntax == StorageCommitmentPushModel
        if not commitment and abstract_syntax != Verification and not is_storage(abstract_syntax):
            continue
        syntaxes = chosen.setdefault(abstract_syntax, [])
        proposed_syntaxes = [str(uid) for uid in context.transfer_syntax]
        if commitment:  # its messages are read before they are answered
            proposed_syntaxes = [uid for uid in proposed_syntaxes if uid in TRANSFER_SYNTAXES]
        choice = choose_transfer_syntax(proposed_syntaxes)
        if choice is not None:
            context.transfer_syntax = [choice]
            syntaxes.append(choice)
    return [_context(abstract_syntax, syntaxes) for abstract_syntax, syntaxes in chosen.items()]


def _context(abstract_syntax: str, transfer_syntaxes: list[str]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(dict.fromkeys(transfer_syntaxes))
    if abstract_syntax == StorageCommitmentPushModel:
        # Requests come to us as the SCP; results of our own requests come from a peer that is the SCP and says so by
        # role selection (PS3.7 D.3.3.4).
        context.scu_role = context.scp_role = True
    return context
