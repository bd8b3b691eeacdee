"""What ops type: each command on a real database, as a table and as JSON, with the exit status that is promised."""

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from rich.console import Console
from sqlmodel import select

from tests.support import certificates
from tests.support.certificates import Authority
from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, save, spool_bytes, spool_object
from worker.cli import main
from worker.commands.up import _say_hello
from worker.commitment.message import Message, Reference
from worker.config import Peer, load_settings
from worker.database import CommitmentAsked, Delivery, Report, utc_now
from worker.pipeline import Pipeline
from worker.supervision.addresses import Addresses


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FIRSTREAD_MIN_FREE_BYTES", "0")
    (tmp_path / "data").mkdir()
    return make_pipeline(f"sqlite:///{tmp_path}/data/firstread.db", tmp_path / "data")


@pytest.fixture
def study(pipeline: Pipeline) -> pydicom.Dataset:
    """One study that is complete and reported, one that failed for good."""
    good, cut = film(PatientID="GOOD"), film(PatientID="CUT")
    cut.PixelData = b"\0\0"
    spool_object(pipeline.spool, good)
    spool_object(pipeline.spool, cut)
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    return good


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["firstread", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_studies_and_show(study: pydicom.Dataset, monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "studies", "--json")
    listed = json.loads(out)
    assert code == 0
    assert [s["ai_status"] for s in listed] == ["failed", "complete"]
    code, out, _ = run(monkeypatch, capsys, "studies", "--search", "good")
    assert code == 0
    assert "GOOD" in out
    assert "CUT" not in out
    code, out, _ = run(monkeypatch, capsys, "studies", "--search", "cut")
    assert "AI failed: " in out
    assert "1 of 1 study" in out
    code, out, _ = run(monkeypatch, capsys, "show", study.StudyInstanceUID, "--json")
    assert json.loads(out)["study_instance_uid"] == study.StudyInstanceUID
    code, out, _ = run(monkeypatch, capsys, "show", study.StudyInstanceUID)
    assert (code, "pneumonia" in out, study.SOPInstanceUID in out) == (0, True, True)
    failed = listed[0]["study_instance_uid"]
    assert "acknowledged" not in run(monkeypatch, capsys, "show", failed)[1]
    assert run(monkeypatch, capsys, "acknowledge", failed)[0] == 0
    assert re.search(
        rf"failure acknowledged on \S+Z by operator \(uid {os.getuid()}\)\n",
        run(monkeypatch, capsys, "show", failed)[1],
    )
    code, out, err = run(monkeypatch, capsys, "show", "1.2.3.4")
    assert (code, out) == (1, "")
    assert "1.2.3.4" in err


def head(shown: str) -> dict[str, str]:
    """The lines above the tables of `show`."""
    return {line[:16].strip(): line[16:] for line in shown.splitlines() if re.match(r"[a-zA-Z ]{15} \S", line)}


def test_show_says_in_plain_words_where_a_study_stands(
    pipeline: Pipeline, study: pydicom.Dataset, monkeypatch, capsys
) -> None:
    good = head(run(monkeypatch, capsys, "show", study.StudyInstanceUID)[1])
    assert good["AI"] == "complete: of 1 instance received, 1 classified"
    assert good["report"] == "Stored, no destination set"
    assert good["priority"] in {"immediate", "urgent", "routine"}
    assert (good["study"], good["patient ID"]) == (study.StudyInstanceUID, "GOOD")
    assert good["AI finished"].endswith("Z")
    failed = json.loads(run(monkeypatch, capsys, "studies", "--json", "--search", "cut")[1])[0]["study_instance_uid"]
    shown = run(monkeypatch, capsys, "show", failed)[1]
    bad = head(shown)
    assert bad["AI"] == "failed: of 1 instance received, 1 failed"
    assert bad["result"].startswith("AI failed: ")
    assert bad["priority"] == "none: the AI failed, so this study is not triaged"
    assert "findings" not in shown  # no empty table
    assert "NONE" not in shown
    spool_object(pipeline.spool, film(PatientID="NEW"))
    pipeline.register_arrivals()
    capsys.readouterr()  # what registering logs
    new = json.loads(run(monkeypatch, capsys, "studies", "--json", "--search", "new")[1])[0]["study_instance_uid"]
    waiting = head(run(monkeypatch, capsys, "show", new)[1])
    assert (waiting["AI"], waiting["priority"]) == (
        "pending: of 1 instance received, 1 pending", "none yet: the AI is not done",
    )  # fmt: skip


def test_reconcile_says_what_is_unaccounted_for(
    pipeline: Pipeline, study: pydicom.Dataset, monkeypatch, capsys
) -> None:
    code, out, _ = run(monkeypatch, capsys, "reconcile", "--json")
    assert code == 0
    assert json.loads(out) == {
        "accepted": 2, "complete": 1, "failed": 1, "not_eligible": 0, "pending": 0, "removed_by_retention": 0,
        "unaccounted": [],
    }  # fmt: skip
    spool_bytes(pipeline.spool, b"something new")
    assert json.loads(run(monkeypatch, capsys, "reconcile", "--json")[1])["pending"] == 1
    for name in list(pipeline.spool.filed()):
        path = pipeline.spool.filed_path(name)
        if pydicom.dcmread(path).SOPInstanceUID == study.SOPInstanceUID:
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert run(monkeypatch, capsys, "reconcile")[0] == 0
    code, out, err = run(monkeypatch, capsys, "reconcile", "--verify")
    assert code == 1
    assert study.SOPInstanceUID in err
    assert "SHA-256 differs" in err
    stray = pipeline.spool.stored_dir / "20260101" / "20260101T000000.000000000-stray.dcm"
    stray.parent.mkdir()
    stray.write_bytes(b"?")
    code, out, _ = run(monkeypatch, capsys, "reconcile", "--json")
    assert code == 1
    assert json.loads(out)["unaccounted"] == [
        {"path": str(stray), "why": "it lies in the spool and has no row in the database"}
    ]


def test_reconcile_finds_lost_bytes_and_forgotten_work(
    pipeline: Pipeline, study: pydicom.Dataset, monkeypatch, capsys
) -> None:
    from sqlmodel import select

    from worker.database import Instance

    for name in list(pipeline.spool.filed()):
        pipeline.spool.filed_path(name).unlink()
    with pipeline.database.write() as session:
        session.exec(select(Instance)).first().status = "pending"
    code, out, _ = run(monkeypatch, capsys, "reconcile", "--json")
    why = [entry["why"] for entry in json.loads(out)["unaccounted"]]
    assert code == 1
    assert why == ["it is pending, but no work is owed for it", "its stored bytes are gone from the spool"]


def test_quarantine_and_reprocess(study: pydicom.Dataset, monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "quarantine", "list", "--json")
    (item,) = json.loads(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", item["since"])
    assert (code, item["kind"], item["last_error"]) == (0, "infer", "the pixels are cut short")
    code, out, _ = run(monkeypatch, capsys, "quarantine", "list")
    assert (code, item["since"] in out, item["study_instance_uid"] in out) == (0, True, True)
    code, out, _ = run(monkeypatch, capsys, "quarantine", "retry", str(item["id"]))
    assert (code, "queued for classification again" in out) == (0, True)
    assert json.loads(run(monkeypatch, capsys, "quarantine", "list", "--json")[1]) == []
    assert json.loads(run(monkeypatch, capsys, "reconcile", "--json")[1])["pending"] == 1
    code, _, err = run(monkeypatch, capsys, "quarantine", "retry", "9999")
    assert (code, "no work 9999" in err) == (1, True)
    code, out, _ = run(monkeypatch, capsys, "reprocess", study.StudyInstanceUID, "--json")
    assert (code, json.loads(out)["owed"]) == (0, 1)
    out = run(monkeypatch, capsys, "reprocess", study.StudyInstanceUID)[1]
    assert "queued for classification by the models it went to before (1 to do)" in out
    out = run(monkeypatch, capsys, "reprocess", study.StudyInstanceUID, "--model", "chest_xray_triage")[1]
    assert "1 instance queued for classification by chest_xray_triage@" in out
    code, _, err = run(monkeypatch, capsys, "reprocess", study.StudyInstanceUID, "--model", "nothing@1.0.0")
    assert (code, "nothing" in err) == (1, True)


def test_resend_needs_a_destination(study: pydicom.Dataset, monkeypatch, capsys) -> None:
    code, _, err = run(monkeypatch, capsys, "resend", study.StudyInstanceUID)
    assert (code, "FIRSTREAD_PACS" in err) == (1, True)
    monkeypatch.setenv("FIRSTREAD_PACS", "PACS@192.0.2.1:104")
    code, out, _ = run(monkeypatch, capsys, "resend", study.StudyInstanceUID, "--json")
    assert (code, json.loads(out)["destinations"]) == (0, ["PACS@192.0.2.1:104"])
    out = run(monkeypatch, capsys, "resend", study.StudyInstanceUID)[1]
    assert out == "queued for delivery to PACS@192.0.2.1:104\n"


def test_route_says_which_rule_and_why(pipeline: Pipeline, tmp_path: Path, monkeypatch, capsys) -> None:
    path = save(film(), tmp_path / "a.dcm")
    code, out, _ = run(monkeypatch, capsys, "route", str(path), "--json")
    said = json.loads(out)
    assert (code, said["route"]) == (0, "chest-film")
    assert said["models"][0].startswith("chest_xray_triage@")
    lateral = save(film(ViewPosition="LL"), tmp_path / "b.dcm")
    code, out, _ = run(monkeypatch, capsys, "route", str(lateral))
    assert "lateral" in out
    (tmp_path / "c.dcm").write_bytes(b"no scan")
    code, _, err = run(monkeypatch, capsys, "route", str(tmp_path / "c.dcm"))
    assert (code, f"{tmp_path}/c.dcm: it is no DICOM object" in err) == (1, True)


def test_check_names_the_fix(pipeline: Pipeline, monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "check")
    assert code == 0, out
    monkeypatch.setenv("FIRSTREAD_PACS", "PACS@127.0.0.1:1")
    monkeypatch.setenv("FIRSTREAD_COMMITMENT_PEERS", "CT1@127.0.0.1:1,PACS@127.0.0.1:1")
    monkeypatch.setenv("FIRSTREAD_COMMITMENT_FROM", "all")
    monkeypatch.setenv("FIRSTREAD_CALLING_AES", "CT1")
    monkeypatch.setenv("FIRSTREAD_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("FIRSTREAD_MIN_FREE_BYTES", str(1 << 60))
    code, out, _ = run(monkeypatch, capsys, "check", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 1
    assert {name for name, finding in findings.items() if not finding["ok"]} == {
        "broker",
        "spool",
        "pacs PACS@127.0.0.1:1",
        "commitment CT1@127.0.0.1:1",
        "commitment of PACS@127.0.0.1:1",
    }
    assert "A700" in findings["spool"]["fix"]


def test_check_says_who_may_call_and_what_is_misspelt(pipeline: Pipeline, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FIRSTREAD_WEB_HOST", "8.8.8.8")
    (tmp_path / "firstread.toml").write_text(
        'dicomport = 1\n[[route]]\nname = "knees"\nwhen = { Modality = "CR" }\nmodel = "knee_reader@1.0.0"\n'
        '[[route]]\nname = "films"\nwhen = { Modality = "CR" }\nmodel = "chest_xray_triage"\n'
        '[[route]]\nname = "trial"\nwhen = { Modality = "CT" }\nnot_eligible = "a trial"\n'
    )
    code, out, _ = run(monkeypatch, capsys, "check", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 1
    bad = {name for name, finding in findings.items() if not finding["ok"]}
    assert bad == {"settings", "routes", "FIRSTREAD_WEB_HOST", "login"}
    assert findings["settings"]["found"] == "unknown: firstread.toml: dicomport"
    assert findings["routes"]["found"] == "route 'knees' names the model knee_reader@1.0.0, which is not installed"
    assert findings["callers"]["found"] == "any AE title may call; set FIRSTREAD_CALLING_AES"
    monkeypatch.setenv("FIRSTREAD_CALLING_AES", "CT1,DX2")
    assert "ok    callers: only CT1, DX2" in run(monkeypatch, capsys, "check")[1]


def test_check_says_which_database_cannot_be_opened(pipeline: Pipeline, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIRSTREAD_DATABASE_URL", f"sqlite:///{tmp_path}/file/firstread.db")
    code, out, _ = run(monkeypatch, capsys, "check")
    assert code == 1
    assert "FAIL  database: FIRSTREAD_DATABASE_URL cannot be opened" in out
    assert "ok    spool" in out


@pytest.mark.parametrize("command", ["check", "up", "studies", "reconcile"])
def test_a_data_directory_that_cannot_be_made_is_exit_2(tmp_path: Path, monkeypatch, capsys, command: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "file" / "data"))
    code, out, err = run(monkeypatch, capsys, command)
    assert (code, out) == (2, "")
    assert f"FIRSTREAD_DATA_DIR={tmp_path}/file/data: it cannot be made" in err


def test_up_names_the_address_that_is_not_ours(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FIRSTREAD_WEB_HOST", "8.8.8.8")
    code, _, err = run(monkeypatch, capsys, "up")
    assert (code, "FIRSTREAD_WEB_HOST=8.8.8.8 is no address of this machine" in err, "PORT" in err) == (2, True, False)


def test_up_names_the_certificate_that_cannot_be_used(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path))
    for name, path in certificates.settings(Authority(tmp_path / "ca").expired("old")).items():
        monkeypatch.setenv(f"FIRSTREAD_{name.upper()}", str(path))
    code, _, err = run(monkeypatch, capsys, "up")
    assert (code, "FIRSTREAD_TLS_CERTIFICATE" in err, "expired on" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("host", "aes", "warned"),
    [("127.0.0.1", (), False), ("localhost", (), False), ("0.0.0.0", (), True), ("0.0.0.0", ("CT1",), False)],
)
def test_up_says_that_anybody_may_call(host: str, aes: tuple[str, ...], warned: bool, tmp_path: Path, capsys) -> None:
    settings = load_settings(data_dir=tmp_path, dicom_host=host, calling_aes=aes)
    addresses = Addresses(Peer(ae_title="FIRSTREAD", host=host, port=11112), "http://127.0.0.1:8080/")
    _say_hello(addresses, SimpleNamespace(data_dir=tmp_path, logs_dir=tmp_path), settings, None)  # type: ignore[arg-type]
    assert ("any AE title may call; set FIRSTREAD_CALLING_AES" in capsys.readouterr().out) == warned


def test_scans_without_a_file_are_named(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("COLUMNS", "300")
    code, _, err = run(monkeypatch, capsys, "demo", "--scans", str(tmp_path / "none"))
    assert (code, "none: there is no file in it" in err) == (2, True)


@pytest.mark.parametrize(("option", "allowed"), [("--status", "not_eligible"), ("--priority", "immediate")])
def test_a_state_that_does_not_exist_is_bad_usage(pipeline: Pipeline, option, allowed, monkeypatch, capsys) -> None:
    code, out, err = run(monkeypatch, capsys, "studies", option, "foo")
    assert (code, out) == (2, "")
    assert option in err
    assert allowed in err


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160, 220])
def test_uids_and_times_are_never_cut(study: pydicom.Dataset, width: int, monkeypatch, capsys) -> None:
    (shown,) = json.loads(run(monkeypatch, capsys, "studies", "--search", "good", "--json")[1])
    monkeypatch.setattr("worker.commands.output.out", Console(width=width))
    out = run(monkeypatch, capsys, "studies")[1]
    assert shown["study_instance_uid"] in out
    assert shown["received_at"] in out
    assert "…" not in out
    assert ("┃" in out) == (width >= 160)
    shown = run(monkeypatch, capsys, "show", study.StudyInstanceUID)[1]
    assert study.SOPInstanceUID in shown


def test_the_version(monkeypatch, capsys) -> None:
    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"firstread {version('firstread')}\n")


def test_no_commitments_is_said(pipeline: Pipeline, monkeypatch, capsys) -> None:
    assert run(monkeypatch, capsys, "commitments") == (
        0,
        "storage commitment: none, neither asked of us nor by us\n",
        "",
    )


def test_commitments(study: pydicom.Dataset, pipeline: Pipeline, monkeypatch, capsys) -> None:
    """A request from somebody whose address is not known, and one of ours that failed."""
    reference = Reference(str(study.SOPClassUID), str(study.SOPInstanceUID))
    with pipeline.spool.receive_commitment() as incoming:
        incoming.write(Message("request", "2.25.7", (reference,), "CT7", "FIRSTREAD").to_json())
        incoming.commit()
    pipeline.register_arrivals()
    pipeline.deliver()
    with pipeline.database.write() as session:
        report = session.exec(select(Report)).first()
        assert report is not None
        delivery = Delivery(report_id=report.id or 0, destination="PACS@h:1", status="delivered", committed=False)
        session.add(delivery)
        session.flush()
        for status in ("superseded", "failed"):
            asked = CommitmentAsked(
                delivery_id=delivery.id or 0,
                transaction_uid=f"2.25.{len(status)}",
                status=status,
                failure_reason=0x0112,
                asked_at=utc_now(),
            )
            session.add(asked)
    capsys.readouterr()  # what the steps above logged
    code, out, _ = run(monkeypatch, capsys, "commitments", "--json")
    said = json.loads(out)
    assert code == 0
    assert [(one["status"], one["calling_ae"], one["failed"]) for one in said["requests"]] == [("pending", "CT7", None)]
    assert [(one["status"], one["failure"]) for one in said["asked"]] == [
        ("failed", "0x0112 (no such object instance)")
    ]
    code, out, err = run(monkeypatch, capsys, "commitments", "--limit", "5")
    assert (code, "2.25.7" in out, "PACS@h:1" in out) == (0, True, True)
    assert "add it to FIRSTREAD_COMMITMENT_PEERS" in err.replace("\n", " ")
    assert "PACS@h:1 delivered, not committed" in run(monkeypatch, capsys, "show", study.StudyInstanceUID)[1]


def test_a_bad_setting_is_exit_2_before_anything_starts(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "never"))
    monkeypatch.setenv("FIRSTREAD_DICOM_PORT", "high")
    for command in ("listener", "intake", "worklist", "studies", "check", "config"):
        code, _, err = run(monkeypatch, capsys, command)
        assert (code, "FIRSTREAD_DICOM_PORT='high'" in err) == (2, True)
    assert not (tmp_path / "never").exists()


def test_a_worker_needs_a_broker(pipeline: Pipeline, monkeypatch, capsys) -> None:
    code, _, err = run(monkeypatch, capsys, "worker")
    assert (code, "FIRSTREAD_BROKER_URL" in err) == (2, True)
