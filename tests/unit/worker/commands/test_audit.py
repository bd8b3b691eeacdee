"""`firstread audit …` as an auditor types it: exit status, tables, JSON, files of its owner's alone."""

import csv
import io
import json
from pathlib import Path

import pydicom
import pytest

from tests.support.fakes import MODEL, FakeClassifier, FakeReader, make_pipeline
from tests.support.objects import film, spool_object
from tests.support.tampering import chained_again, execute, unguarded
from worker.audit.anchor import AnchorFile, Anchoring
from worker.cli import main
from worker.pipeline import Pipeline


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTREAD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FIRSTREAD_MIN_FREE_BYTES", "0")
    made = make_pipeline(f"sqlite:///{tmp_path}/data/firstread.db", tmp_path / "data")
    yield made
    made.database.dispose()


@pytest.fixture
def studies(pipeline: Pipeline) -> list[pydicom.Dataset]:
    made = [film(), film()]
    for ds in made:
        spool_object(pipeline.spool, ds)
    pipeline.register_arrivals()
    pipeline.infer(MODEL, FakeClassifier(), FakeReader())  # type: ignore[arg-type]
    pipeline.report()
    return made


@pytest.fixture
def anchoring(pipeline: Pipeline, tmp_path: Path) -> Anchoring:
    return Anchoring(pipeline.database, AnchorFile(tmp_path / "data" / "audit" / "anchors.jsonl"), actor="test")


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["firstread", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_verify(pipeline: Pipeline, studies, anchoring: Anchoring, monkeypatch, capsys) -> None:
    anchoring.follow()
    code, out, err = run(monkeypatch, capsys, "audit", "verify", "--files")
    assert (code, err) == (0, "")
    assert "chain: 7 events, the last 7 of " in out
    assert "anchors: they fit up to event 7" in out
    assert "rows: 2 of instance, 2 of prediction, 2 of report" in out
    execute(pipeline.database, "UPDATE prediction SET flagged = '[]', probabilities = '{}' WHERE id = 2")
    code, out, err = run(monkeypatch, capsys, "audit", "verify")
    assert (code, "FAIL" in out, "prediction 2: probabilities is {}, the chain says" in err) == (1, True, True)
    code, out, _ = run(monkeypatch, capsys, "audit", "verify", "--json")
    said = json.loads(out)
    assert (code, said["events"], said["anchored"]["id"]) == (1, 7, 7)
    assert {(one["table"], one["row"]) for one in said["findings"]} == {("prediction", 2)}
    assert run(monkeypatch, capsys, "audit", "verify", "--anchors", "nowhere")[0] == 2


def test_export_of_a_study(studies, monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "audit", "export", "--study", studies[0].StudyInstanceUID)
    events = json.loads(out)
    assert code == 0
    assert [event["action"] for event in events] == ["instance.registered", "prediction.made", "report.stored"]
    assert events[1]["subject"] == studies[0].SOPInstanceUID
    assert set(events[1]["detail"]["probabilities"]) == {"normal", "pneumonia", "covid"}
    assert run(monkeypatch, capsys, "audit", "export", "--study", "1.2.3.4")[0] == 1
    assert run(monkeypatch, capsys, "audit", "export", "--study", "no uid")[0] == 1


def test_export_as_csv_into_a_file_of_ones_own(studies, tmp_path: Path, monkeypatch, capsys) -> None:
    target = tmp_path / "events.csv"
    code, out, err = run(monkeypatch, capsys, "audit", "export", "--format", "csv", "--out", str(target))
    assert (code, out, str(target) in err) == (0, "", True)
    assert target.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 7)]
    assert json.loads(rows[2]["detail"])["model"] == MODEL


def test_export_of_a_time(studies, monkeypatch, capsys) -> None:
    assert json.loads(run(monkeypatch, capsys, "audit", "export", "--to", "2020-01-01")[1]) == []
    assert len(json.loads(run(monkeypatch, capsys, "audit", "export", "--from", "2020-01-01")[1])) == 6
    assert run(monkeypatch, capsys, "audit", "export", "--from", "yesterday")[0] == 2


def test_no_cell_of_the_export_is_a_formula(pipeline: Pipeline, monkeypatch, capsys) -> None:
    with pipeline.database.write() as session:
        pipeline.record(session, "=cmd()", "+1", {})
    out = run(monkeypatch, capsys, "audit", "export", "--format", "csv")[1]
    assert ",'=cmd(),'+1," in out


def test_a_restore_is_told_of(pipeline: Pipeline, studies, anchoring: Anchoring, monkeypatch, capsys) -> None:
    anchoring.follow()
    unguarded(pipeline.database)
    execute(pipeline.database, "DELETE FROM audit_event WHERE id > 6")
    chained_again(pipeline.database, 6)
    assert run(monkeypatch, capsys, "audit", "verify")[0] == 1
    code, out, _ = run(monkeypatch, capsys, "audit", "restored", "--reason", "drill", "--json")
    assert (code, json.loads(out)["restored_to"]) == (0, 6)
    code, _, err = run(monkeypatch, capsys, "audit", "verify")
    assert (code, "it had reached event 7" in err) == (0, True)


def test_check_has_a_line_for_the_anchor(
    pipeline: Pipeline, studies, anchoring: Anchoring, monkeypatch, capsys
) -> None:
    def line() -> dict[str, object]:
        found = json.loads(run(monkeypatch, capsys, "check", "--json")[1])
        return next(finding for finding in found if finding["name"] == "audit")

    assert (line()["ok"], line()["found"]) == (True, "6 events, no anchor yet: intake makes the first")
    anchoring.follow()
    assert "anchored up to event 7" in str(line()["found"])
    content = anchoring.file.path.read_bytes()
    anchoring.file.path.unlink()
    assert (line()["ok"], "is gone" in str(line()["found"])) == (False, True)
    anchoring.file.path.write_bytes(content)
    unguarded(pipeline.database)
    execute(pipeline.database, "DELETE FROM audit_event WHERE id = 7")
    assert (line()["ok"], "event 7" in str(line()["found"])) == (False, True)
