"""`firstread check` on certificates and callers: what is in force, what ends soon, what cannot be used."""

import datetime as dt
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.certificates import Authority
from worker.check import check_callers, check_pacs, check_tls
from worker.config import Peer, Settings


def settings(tmp_path: Path, **more: object) -> Settings:
    return Settings(data_dir=tmp_path / "data", **more)  # type: ignore[arg-type]


def test_without_tls_it_says_so(tmp_path: Path) -> None:
    assert check_tls(settings(tmp_path)).ok
    assert "plain" in check_tls(settings(tmp_path)).found


@pytest.mark.parametrize(("days", "well"), [(31, True), (29, False)])
def test_the_days_that_are_left(tmp_path: Path, days: int, well: bool) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
    files = Authority(tmp_path / "ca").issue("firstread", not_after=ends)
    finding = check_tls(settings(tmp_path, **certificates.settings(files), dicom_plain_port=104))
    assert finding.ok is well
    assert f"{days} days left; port 104 is plain" in finding.found
    assert finding.found.startswith("CN=firstread,")
    assert ("SIGHUP" in finding.fix) is not well


def test_an_expired_one_is_a_failure(tmp_path: Path) -> None:
    finding = check_tls(settings(tmp_path, **certificates.settings(Authority(tmp_path / "ca").expired("old"))))
    assert not finding.ok
    assert "expired on" in finding.found


def test_the_callers_of_both_settings(tmp_path: Path) -> None:
    rules = {"calling_aes": ("CT1@192.0.2.7",), "caller": ({"ae_title": "MR1"},)}
    assert check_callers(settings(tmp_path, **rules)).found == "only CT1@192.0.2.7, 1 [[caller]] table"


def test_the_echo_goes_over_tls(tmp_path: Path) -> None:
    files = Authority(tmp_path / "ca").expired("old")
    peer = Peer.parse("PACS@127.0.0.1:104/tls")
    (finding,) = check_pacs(settings(tmp_path, **certificates.settings(files), pacs=(peer,)))
    assert (finding.name, finding.ok) == ("pacs PACS@127.0.0.1:104/tls", False)
    assert "expired on" in finding.found
