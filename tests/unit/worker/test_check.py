"""`firstread check` on certificates, callers and children: what is in force, what ends soon, what is missing."""

import datetime as dt
from pathlib import Path

import pytest

from models.engines import choice
from tests.support import certificates
from tests.support.certificates import Authority
from worker.check import SERIOUS, check_callers, check_children, check_models, check_pacs, check_tls
from worker.config import Peer, Settings
from worker.errors import ChildLost
from worker.guarded.confinement import WHY
from worker.guarded.warm import WarmChild


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


CHILDREN = ["decoding child", "header child"]
IN_FORCE = dict.fromkeys(WHY, (True, "as it should be"))


def test_real_children_try_what_they_must_not_be_able_to_do(tmp_path: Path) -> None:
    findings = list(check_children(settings(tmp_path)))
    assert [(one.name, one.ok, one.fix) for one in findings] == [(name, True, "") for name in CHILDREN]
    for finding in findings:
        assert all(layer in finding.found for layer in WHY)
        assert "tried" in finding.found
        assert not any(what in finding.found.partition("tried")[2] for what in SERIOUS)


@pytest.mark.parametrize("what", sorted(SERIOUS))
def test_a_layer_that_is_missing_is_a_finding_where_it_opens_a_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    layers = IN_FORCE | {"seccomp": (False, "the kernel has none")}
    monkeypatch.setattr(WarmChild, "layers", lambda _: layers)
    monkeypatch.setattr(WarmChild, "probe", lambda _: ["read a file", what])
    findings = list(check_children(settings(tmp_path)))
    assert [(one.name, one.ok) for one in findings] == [(name, False) for name in CHILDREN]
    for finding in findings:
        assert f"no seccomp (the kernel has none): {WHY['seccomp']}" in finding.found
        assert f"tried and possible: read a file, {what}" in finding.found
        assert "Landlock and seccomp allowed" in finding.fix


def test_a_layer_that_is_missing_is_said_where_it_opens_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WarmChild, "layers", lambda _: IN_FORCE | {"Landlock": (False, "Linux is older than 5.13")})
    monkeypatch.setattr(WarmChild, "probe", lambda _: ["read a file"])
    for finding in check_children(settings(tmp_path)):
        assert (finding.ok, finding.fix) == (True, "")
        assert f"no Landlock (Linux is older than 5.13): {WHY['Landlock']}" in finding.found
        assert finding.found.endswith("tried and possible: read a file")


def test_a_child_that_cannot_be_started_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: WarmChild) -> None:
        raise ChildLost("the process ended before it was ready")

    monkeypatch.setattr(WarmChild, "layers", lost)
    findings = list(check_children(settings(tmp_path)))
    assert [(one.name, one.ok, one.found) for one in findings] == [
        (name, False, "the process ended before it was ready") for name in CHILDREN
    ]
    assert all("free memory" in one.fix for one in findings)


def test_a_model_says_which_engine_it_runs_on_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {finding.name: finding for finding in check_models(settings(tmp_path))}
    assert all(finding.ok for finding in found.values())
    assert any("runs on onnx: verified" in finding.found for finding in found.values())
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "onnxruntime" else object())
    without = list(check_models(settings(tmp_path)))
    assert all(finding.ok and "runs on keras: onnxruntime is not installed" in finding.found for finding in without)
    wanted = list(check_models(settings(tmp_path, engine="onnx")))
    assert [finding.ok for finding in wanted] == [False] * len(without)
    assert "FIRSTREAD_ENGINE" in wanted[0].fix


def test_a_model_that_may_not_be_computed_in_mixed_precision_says_why(tmp_path: Path) -> None:
    found = list(check_models(settings(tmp_path, engine="keras", precision="mixed")))
    assert all(finding.ok for finding in found), "float32 is the reference: slower, and never wrong"
    assert all("FIRSTREAD_PRECISION asks for mixed: its card does not allow" in finding.found for finding in found)
    assert not any("PRECISION" in finding.found for finding in check_models(settings(tmp_path, engine="keras")))
