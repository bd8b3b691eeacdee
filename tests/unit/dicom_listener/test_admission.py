"""Which callers are admitted, and what is said of those that are not."""

import pytest

from dicom_listener.admission import Admission
from worker.config import Caller

CT1 = ("CN=ct1,O=Hospital", "DNS:ct1.hospital.example", "IP:192.0.2.7")


def test_without_a_list_anybody_may_call() -> None:
    assert Admission(()).admits_address("203.0.113.9")
    assert Admission(()).objection("ANY", "203.0.113.9", ()) is None


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.7", True),
        ("2001:db8::9", True),
        ("fe80::1%lo", False),
    ],
)
def test_addresses_of_both_families(address: str, admitted: bool) -> None:
    admission = Admission([Caller.parse("CT1@192.0.2.0/24"), Caller.parse("CT1@2001:db8::/32")])
    assert admission.admits_address(address) is admitted
    assert (admission.objection("CT1", address, ()) is None) is admitted


def test_a_rule_without_addresses_lets_every_address_ask() -> None:
    assert Admission([Caller.parse("CT1@192.0.2.7"), Caller.parse("CT2")]).admits_address("203.0.113.9")


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("CN=ct1,O=Hospital", True),
        ("cn=CT?,o=*", True),
        ("DNS:*.hospital.example", True),
        ("IP:192.0.2.7", True),
        ("CN=ct1", False),
        ("CN=ct2*", False),
        ("CN=ct1.O=Hospital", False),
    ],
)
def test_patterns_of_certificates(pattern: str, fits: bool) -> None:
    admission = Admission([Caller(certificate=pattern)])
    assert admission.objection("ANY", "192.0.2.7", CT1) == (None if fits else "certificate")
    assert admission.objection("ANY", "192.0.2.7", ()) == "certificate"


def test_everything_that_is_said_has_to_fit_in_one_rule() -> None:
    admission = Admission(
        [Caller(ae_title="CT1", addresses=("192.0.2.7",), certificate="CN=ct1*"), Caller(ae_title="MR1")]
    )
    assert admission.objection("CT1", "192.0.2.7", CT1) is None
    assert admission.objection("CT1", "192.0.2.8", CT1) == "address"
    assert admission.objection("CT1", "192.0.2.7", ("CN=mr1",)) == "certificate"
    assert admission.objection("MR1", "192.0.2.8", ()) is None
    assert admission.objection("CT2", "192.0.2.7", CT1) == "calling_ae"
