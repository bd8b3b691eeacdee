"""Whatever is done to the chain, with the triggers taken away, verification finds it and names the row."""

from pathlib import Path

import pytest

from tests.support.tampering import chained_again, events, execute, unguarded
from worker import schema
from worker.audit.anchor import AnchorFile, Anchoring, restored
from worker.audit.log import digest
from worker.audit.verify import Verification, verify
from worker.database import AuditEvent, Database


@pytest.fixture
def database(database_url: str):
    made = Database(database_url)
    schema.migrate(made)
    yield made
    made.dispose()


@pytest.fixture
def file(tmp_path: Path) -> AnchorFile:
    return AnchorFile(tmp_path / "audit" / "anchors.jsonl")


@pytest.fixture
def anchoring(database: Database, file: AnchorFile) -> Anchoring:
    return Anchoring(database, file, actor="intake@test")


@pytest.fixture
def chain(database: Database, anchoring: Anchoring) -> None:
    """Ten events, anchored at 1 (which tells that anchors were begun), 5 and 10; the triggers are gone."""
    anchoring.follow()
    for count in (4, 5):
        events(database, count)
        anchoring.follow()
    unguarded(database)


def found(result: Verification) -> list[tuple[str, int | str]]:
    return [(finding.table, finding.row) for finding in result.findings]


def words(result: Verification) -> str:
    return " / ".join(map(str, result.findings))


@pytest.mark.usefixtures("chain")
class TestTampering:
    def test_a_whole_chain_is_whole(self, database: Database, file: AnchorFile) -> None:
        result = verify(database, file)
        assert (result.findings, result.notes, result.events) == ([], [], 10)
        assert result.anchored is not None
        assert (result.anchored.id, result.last["id"]) == (10, 10)  # type: ignore[index]

    @pytest.mark.parametrize("row", [1, 6, 10])
    def test_a_changed_row(self, database: Database, file: AnchorFile, row: int) -> None:
        execute(database, "UPDATE audit_event SET subject = 'other' WHERE id = :row", row=row)
        result = verify(database, file)
        assert found(result) == [("audit_event", row)]
        assert "changed after it was written" in words(result)

    def test_a_changed_row_with_a_digest_of_its_own(self, database: Database, file: AnchorFile) -> None:
        execute(database, "UPDATE audit_event SET sha256 = :sha WHERE id = 6", sha="f" * 64)
        assert set(found(verify(database, file))) == {("audit_event", 6)}

    def test_a_row_with_nonsense_in_it(self, database: Database, file: AnchorFile) -> None:
        if database.is_sqlite:
            execute(database, "UPDATE audit_event SET at = 'yesterday', detail = x'00ff' WHERE id = 6")
            assert found(verify(database, file)) == [("audit_event", 6)]

    @pytest.mark.parametrize(("rows", "named"), [((6, 6), 6), ((3, 7), "3 to 7"), ((1, 2), "1 to 2")])
    def test_deleted_rows(self, database: Database, file: AnchorFile, rows: tuple[int, int], named: object) -> None:
        execute(database, "DELETE FROM audit_event WHERE id BETWEEN :a AND :b", a=rows[0], b=rows[1])
        result = verify(database, file)
        assert ("audit_event", named) in found(result)
        assert "deleted" in words(result)

    def test_the_last_rows_deleted(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id > 8")
        assert ("audit_event", "9 to 10") in found(verify(database, file))

    def test_the_last_rows_deleted_and_written_on(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id > 8")
        events(database, 1)
        assert ("audit_event", "9 to 10") in found(verify(database, file))

    def test_the_last_rows_deleted_and_the_head_set_back(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id > 8")
        chained_again(database, 8)
        result = verify(database, file)
        assert found(result) == [("audit_event", "9 to 10")]
        assert "the chain reached event 10" in words(result)

    def test_everything_deleted(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event")
        assert ("audit_event", "1 to 10") in found(verify(database, file))

    def test_a_row_rewritten_with_all_digests_after_it(self, database: Database, file: AnchorFile) -> None:
        execute(database, "UPDATE audit_event SET subject = 'other' WHERE id = 7")
        chained_again(database, 7)
        result = verify(database, file)
        assert found(result) == [("audit_event", 10)]
        assert "the chain was rewritten after event 5" in words(result)
        assert result.anchored is not None
        assert result.anchored.id == 5

    def test_a_row_taken_out_with_all_digests_after_it(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id = 7")
        chained_again(database, 8)
        assert ("audit_event", 7) in found(verify(database, file))

    def test_what_no_anchor_has_seen_yet_the_head_has(self, database: Database, file: AnchorFile) -> None:
        events(database, 3)
        execute(database, "DELETE FROM audit_event WHERE id > 11")
        assert found(verify(database, file)) == [("audit_event", "12 to 13")]

    def test_the_last_row_rewritten_before_it_is_anchored(self, database: Database, file: AnchorFile) -> None:
        events(database, 3)
        with database.read() as session:
            event = session.get_one(AuditEvent, 13)
            event.subject = "other"
        execute(database, "UPDATE audit_event SET subject = 'other', sha256 = :sha WHERE id = 13", sha=digest(event))
        result = verify(database, file)
        assert found(result) == [("audit_event", 13)]
        assert "the head carries another SHA-256" in words(result)

    def test_a_row_taken_out_before_it_is_anchored(self, database: Database, file: AnchorFile) -> None:
        events(database, 3)
        execute(database, "DELETE FROM audit_event WHERE id = 12")
        execute(database, "UPDATE audit_event SET previous_sha256 = (SELECT sha256 FROM audit_event WHERE id = 11)"
                          " WHERE id = 13")  # fmt: skip
        with database.read() as session:
            sha = digest(session.get_one(AuditEvent, 13))
        execute(database, "UPDATE audit_event SET sha256 = :sha WHERE id = 13", sha=sha)
        execute(database, "UPDATE audit_head SET count = 12, last_sha256 = :sha", sha=sha)
        result = verify(database, file)
        assert found(result) == [("audit_event", 12)]
        assert "missing before event 13" in words(result)

    def test_an_anchored_row_taken_out_as_if_it_had_never_been(self, database: Database, file: AnchorFile) -> None:
        execute(database, "UPDATE audit_head SET gapless_after = 10")
        execute(database, "DELETE FROM audit_event WHERE id = 5")
        chained_again(database, 6)
        assert ("audit_event", 5) in found(verify(database, file))

    def test_a_number_used_again(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id = 7")
        execute(
            database,
            "INSERT INTO audit_event SELECT 7, at, actor, action, 'another', detail, previous_sha256, :sha"
            " FROM audit_event WHERE id = 6",
            sha="e" * 64,
        )
        assert {row for _, row in found(verify(database, file))} == {6, 7}

    def test_a_row_slipped_in_at_the_end(self, database: Database, file: AnchorFile) -> None:
        execute(
            database,
            "INSERT INTO audit_event SELECT 11, at, actor, action, subject, detail, sha256, :sha"
            " FROM audit_event WHERE id = 10",
            sha="e" * 64,
        )
        result = verify(database, file)
        assert {row for _, row in found(result)} == {11}
        assert "slipped in past the audit log" in words(result)

    def test_two_rows_with_their_numbers_exchanged(self, database: Database, file: AnchorFile) -> None:
        for old, new in ((6, 60), (7, 6), (60, 7)):
            execute(database, "UPDATE audit_event SET id = :new WHERE id = :old", old=old, new=new)
        assert {row for _, row in found(verify(database, file))} >= {6, 7}

    def test_no_head(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_head")
        assert ("audit_head", 1) in found(verify(database, file))

    def test_a_head_that_counts_wrong(self, database: Database, file: AnchorFile) -> None:
        execute(database, "UPDATE audit_head SET count = 12")
        assert found(verify(database, file)) == [("audit_head", 1)]

    def test_no_anchors_where_there_were_some(self, database: Database, file: AnchorFile, anchoring: Anchoring) -> None:
        file.path.unlink()
        assert found(verify(database, file)) == [("anchors", str(file.path))]
        anchoring.follow()
        result = verify(database, file)
        assert (result.findings, len(result.notes)) == ([], 1)
        assert "begun 2 times" in result.notes[0]

    def test_a_changed_anchor(self, database: Database, file: AnchorFile) -> None:
        lines = file.path.read_bytes().splitlines(keepends=True)
        file.path.write_bytes(lines[0] + b"nonsense\n" + lines[2])
        assert found(verify(database, file)) == [("anchors", 2)]


@pytest.mark.usefixtures("chain")
class TestHonestDays:
    def test_a_crash_between_commit_and_anchor(self, database: Database, file: AnchorFile) -> None:
        events(database, 3)
        result = verify(database, file)
        assert (result.findings, result.notes, result.events) == ([], [], 13)

    def test_a_crash_in_the_middle_of_an_anchor(
        self, database: Database, file: AnchorFile, anchoring: Anchoring
    ) -> None:
        file.path.write_bytes(file.path.read_bytes()[:-20])
        assert verify(database, file).findings == []
        events(database, 1)
        anchoring.follow()
        result = verify(database, file)
        assert result.findings == []
        assert result.anchored is not None
        assert result.anchored.id == 11

    def test_a_restore_that_is_told_of_is_a_note(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id > 6")
        chained_again(database, 6)
        assert verify(database, file).findings != []  # an older database, and nobody said why
        restored(database, file, "the disk died; backup of last night", actor="operator")
        events(database, 6)  # as many as were lost, and more
        Anchoring(database, file, actor="intake@test").follow()
        result = verify(database, file)
        assert result.findings == []
        assert "restored from a backup" in result.notes[0]
        assert "it had reached event 10" in result.notes[0]

    def test_a_restore_that_only_the_anchors_tell_of(self, database: Database, file: AnchorFile) -> None:
        execute(database, "DELETE FROM audit_event WHERE id > 6")
        chained_again(database, 6)
        with database.read() as session:
            from worker.audit.log import read_head

            file.append(read_head(session), restored=True)  # type: ignore[arg-type]
        result = verify(database, file)
        assert found(result) == [("anchors", str(file.path))]
        assert "the chain does not" in words(result)

    def test_anchoring_does_not_follow_a_chain_that_shrank(
        self, database: Database, file: AnchorFile, anchoring: Anchoring, capsys
    ) -> None:
        before = file.path.read_bytes()
        execute(database, "DELETE FROM audit_event WHERE id > 6")
        chained_again(database, 6)
        anchoring.follow()
        assert file.path.read_bytes() == before
        assert "the chain reaches event 6; at " in "".join(capsys.readouterr())
        events(database, 4)
        anchoring.follow()  # as long as it was, and another
        assert file.path.read_bytes() == before
        assert "it reached event 10, another" in "".join(capsys.readouterr())
        execute(database, "DELETE FROM audit_event WHERE id > 6")
        chained_again(database, 6)
        restored(database, file, "a drill", actor="operator")
        anchoring.follow()
        assert verify(database, file).findings == []


def test_an_empty_chain_is_whole(database: Database, file: AnchorFile) -> None:
    result = verify(database, file)
    assert (result.findings, result.events, result.last) == ([], 0, None)
    assert "no anchors yet" in result.notes[0]
