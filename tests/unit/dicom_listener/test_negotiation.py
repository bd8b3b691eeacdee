"""What is stored, in which encoding."""

import pytest
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor
from pynetdicom.sop_class import ModalityWorklistInformationFind, StorageCommitmentPushModel, Verification

from dicom_listener.negotiation import choose_transfer_syntax, is_storage, supported
from worker.uids import is_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PRIVATE = "1.2.840.113619.5.2"
MIME = "1.2.840.10008.1.2.6.1"


def proposal(context_id: int, abstract_syntax: str, *transfer_syntaxes: str) -> PresentationContext:
    context = build_context(abstract_syntax, list(transfer_syntaxes))
    context.context_id = context_id
    return context


def negotiated(*proposed: PresentationContext) -> dict[int, tuple[int, str]]:
    contexts = list(proposed)
    results, roles = negotiate_as_acceptor(contexts, supported(contexts))
    assert roles == []
    return {context.context_id: (context.result, str(context.transfer_syntax[0])) for context in results}


@pytest.mark.parametrize("uid", [str(context.abstract_syntax) for context in AllStoragePresentationContexts])
def test_every_storage_class_of_the_standard_is_stored(uid: str) -> None:
    assert is_storage(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.6",  # retired: Ultrasound Image Storage
        "1.2.840.10008.5.1.1.29",  # retired: Hardcopy Grayscale Image Storage
        "1.2.840.10008.5.1.4.1.1.501.1",  # DICOS CT Image Storage
        "1.2.840.10008.5.1.4.1.1.9999.1",  # of an edition of the Standard to come
        "1.3.12.2.1107.5.9.1",  # private: Siemens CSA Non-Image Storage
    ],
)
def test_retired_future_and_private_classes_are_stored(uid: str) -> None:
    assert is_storage(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "",
        "nonsense",
        "1.2.3\0",
        "1." + "2" * 70,
        str(Verification),
        str(ModalityWorklistInformationFind),
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Query/Retrieve - FIND
        "1.2.840.10008.5.1.4.1.1.200.4",  # CT Defined Procedure Protocol - FIND
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.1.2.1",  # a transfer syntax
        "1.2.840.10008.9.9.9",  # of the Standard, unknown, not numbered among storage
    ],
)
def test_other_classes_are_not(uid: str) -> None:
    assert not is_storage(uid)


@pytest.mark.parametrize("uid", [str(uid) for uid in ALL_TRANSFER_SYNTAXES if "SMPTE" not in UID(uid).name])
def test_every_transfer_syntax_is_accepted(uid: str) -> None:
    assert choose_transfer_syntax([uid]) == uid


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([BIG_ENDIAN, EXPLICIT, IMPLICIT], BIG_ENDIAN),
        ([EXPLICIT, BIG_ENDIAN], EXPLICIT),
        (["1.2.840.10008.1.2.4.201", IMPLICIT], "1.2.840.10008.1.2.4.201"),
        ([PRIVATE, IMPLICIT], IMPLICIT),
        ([PRIVATE], PRIVATE),
        (["1.2.840.10008.1.2.4.999", EXPLICIT], EXPLICIT),
        (["1.2.840.10008.1.2.4.999"], "1.2.840.10008.1.2.4.999"),
        ([MIME, IMPLICIT], IMPLICIT),
        ([MIME], None),
        (["1.2.840.10008.1.2.7.1"], None),
        (["1.2.840.10008.5.1.4.1.1.2"], None),
        (["what"], None),
        ([], None),
    ],
)
def test_the_senders_order_counts(proposed: list[str], chosen: str | None) -> None:
    assert choose_transfer_syntax(proposed) == chosen


def test_one_class_in_several_contexts_gets_the_first_of_each() -> None:
    results = negotiated(
        proposal(1, CT, EXPLICIT, BIG_ENDIAN), proposal(3, CT, BIG_ENDIAN, EXPLICIT), proposal(5, CT, IMPLICIT)
    )
    assert results == {1: (0, EXPLICIT), 3: (0, BIG_ENDIAN), 5: (0, IMPLICIT)}


def test_what_is_not_served_is_rejected_with_its_reason() -> None:
    results = negotiated(
        proposal(1, CT, MIME), proposal(3, str(ModalityWorklistInformationFind), IMPLICIT), proposal(5, CT, EXPLICIT)
    )
    assert results[1][0] == 4  # transfer syntaxes not supported
    assert results[3][0] == 3  # abstract syntax not supported
    assert results[5] == (0, EXPLICIT)


def test_storage_commitment_is_served_in_what_is_read_before_the_answer() -> None:
    commitment, jpeg = str(StorageCommitmentPushModel), "1.2.840.10008.1.2.4.50"
    results = negotiated(
        proposal(1, commitment, BIG_ENDIAN, IMPLICIT, EXPLICIT), proposal(3, commitment, BIG_ENDIAN, jpeg, PRIVATE)
    )
    assert (results[1], results[3][0]) == ((0, IMPLICIT), 4)


@pytest.mark.parametrize(("proposed", "granted"), [(None, (False, True)), ((False, True), (True, False))])
def test_a_peer_may_be_the_scp_of_storage_commitment(
    proposed: tuple[bool, bool] | None, granted: tuple[bool, bool]
) -> None:
    """Without role selection we are the SCP; with it the peer may be, and gets that in reply (PS3.7 D.3.3.4)."""
    contexts = [proposal(1, str(StorageCommitmentPushModel), IMPLICIT)]
    roles = {StorageCommitmentPushModel: proposed} if proposed else None
    (context,), reply = negotiate_as_acceptor(contexts, supported(contexts), roles)
    assert (context.as_scu, context.as_scp) == granted
    assert [(one.scu_role, one.scp_role) for one in reply] == ([proposed] if proposed else [])


def test_nothing_servable_rejects_every_context() -> None:
    assert negotiated(proposal(1, str(ModalityWorklistInformationFind), IMPLICIT))[1][0] == 3


@pytest.mark.parametrize(("text", "yes"), [("1.2.3", True), ("1" * 64, True), ("1" * 65, False), ("", False),
                                           ("../../x", False), ("1.2\n", False), ("\u0661.\u0662", False)])  # fmt: skip
def test_uids(text: str, yes: bool) -> None:
    assert is_uid(text) is yes
