"""The HTTP interface, asked over HTTP: forms, errors, headers, and what must never leave."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import structlog

from tests.support.browser import served
from tests.support.worklist_rows import EXPECTED_ORDER, Rows, draw_previews, fill, owe_inference, uid
from worker import metrics, schema
from worker.database import Database, Delivery, Heartbeat, WorkItem
from worker.studies import StudyFilter, list_studies
from worker.worklist.app import create_app

MISSING: dict[str, str | None] = {"database": None}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('worklist') / 'firstread.db'}")
    schema.migrate(database)
    fill(database)
    yield database
    database.dispose()


@pytest.fixture(scope="module")
def previews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "previews"
    draw_previews(directory, range(6, 8))
    (directory.parent / "secret.png").write_bytes(b"secret")
    (directory / "private.png").write_bytes(b"secret")
    return directory


@pytest.fixture(scope="module")
def web(database: Database, previews: Path) -> Iterator[httpx.Client]:
    app = create_app(database, previews_dir=previews, readiness=lambda: MISSING, version="9.8.7")
    with served(app) as address, httpx.Client(base_url=address) as client:
        yield client


def test_the_list_is_the_read_model(web: httpx.Client, database: Database) -> None:
    answer = web.get("/api/v1/studies")
    assert answer.status_code == 200
    assert answer.headers["x-total-count"] == "8"
    with database.read() as session:
        assert answer.json() == list_studies(session, StudyFilter())


def test_filters_and_pages(web: httpx.Client) -> None:
    def asked(**query: str | int) -> list[str]:
        return [study["study_instance_uid"] for study in web.get("/api/v1/studies", params=query).json()]

    assert asked(priority="urgent") == [uid(8), uid(5)]
    assert asked(status="not_eligible") == [uid(4)]
    assert asked(search="ursula") == [uid(5)]
    assert asked(limit=2, offset=1) == EXPECTED_ORDER[1:3]


@pytest.mark.parametrize("query", ["status=odd", "priority=odd", "limit=0", "limit=501", "offset=-1", "limit=x"])
def test_a_bad_query_is_named(web: httpx.Client, query: str) -> None:
    answer = web.get(f"/api/v1/studies?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][-1] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("committed", "words"), [(True, "Delivered, committed"), (False, "Delivered, not committed"), (None, "Delivered")]
)
def test_a_study_says_whether_the_destination_answers_for_its_report(
    web: httpx.Client, database: Database, committed: bool | None, words: str
) -> None:
    with database.write() as session:
        session.execute(sa.update(Delivery).values(committed=committed))
    assert f'delivery-delivered">{words}</span>' in web.get(f"/studies/{uid(6)}").text
    (report,) = web.get(f"/api/v1/studies/{uid(6)}").json()["reports"]
    assert report["deliveries"][0]["committed"] is committed


def test_one_study(web: httpx.Client) -> None:
    study = web.get(f"/api/v1/studies/{uid(7)}").json()
    assert study["remark"].startswith("No object says which body part")
    (instance,) = study["instances_detail"]
    assert instance["predictions"][0]["probabilities"]["covid"] == 0.52
    assert instance["sha256"]


@pytest.mark.parametrize("path", ["1.2.3", "nonsense", "..%2f..%2fetc", "%00", "1" * 65])
def test_an_unknown_study_is_a_404_of_the_right_kind(web: httpx.Client, path: str) -> None:
    as_json = web.get(f"/api/v1/studies/{path}")
    assert as_json.status_code == 404
    assert as_json.json()["detail"]
    page = web.get(f"/studies/{path}")
    assert page.status_code == 404
    assert "Not found" in page.text
    assert page.headers["content-type"].startswith("text/html")


def test_the_order_is_said(web: httpx.Client) -> None:
    said = "Immediate, urgent, AI failed, routine, AI pending, then the rest; the oldest first within each."
    assert said in web.get("/").text


def test_a_failed_study_without_a_report_awaits_none(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
    schema.migrate(database)
    Rows(database).study(3, "failed", generation=0, reason="cut off")
    app = create_app(database, previews_dir=tmp_path, readiness=lambda: MISSING, version="1")
    with served(app) as address:
        shown = httpx.get(f"{address}/studies/{uid(3)}").text
        listed = httpx.get(f"{address}/").text
    database.dispose()
    assert "No report: the AI failed on this study." in shown
    assert "No report" in listed
    assert "being written" not in shown + listed


def test_no_such_page(web: httpx.Client) -> None:
    assert "There is nothing at this address" in web.get("/nowhere").text
    assert web.get("/api/nowhere").json() == {"detail": "There is nothing at this address."}
    assert web.post("/").status_code == 405


def test_previews_are_served_and_nothing_else(web: httpx.Client) -> None:
    found = web.get("/previews/6.png")
    assert found.status_code == 200
    assert found.headers["content-type"] == "image/png"
    assert found.headers["cache-control"].startswith("private")
    assert found.content.startswith(b"\x89PNG")
    for name in ("1", "-6", "6x", "private", "..%2fsecret", "%2e%2e/secret", "9" * 5000, "٦", "", "6.png%00"):
        answer = web.get(f"/previews/{name}.png")
        assert answer.status_code == 404, name
        assert b"secret" not in answer.content


def test_health_readiness_metrics(web: httpx.Client) -> None:
    assert web.get("/healthz").json() == {"status": "ok"}
    assert web.get("/readyz").json() == {"status": "ready", "missing": {}}
    MISSING["broker"] = "start Redis"
    try:
        answer = web.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "missing": {"broker": "start Redis"}}
    finally:
        del MISSING["broker"]
    metrics.quarantined.labels(kind="infer").inc()
    shown = web.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain")
    assert 'firstread_quarantined_total{kind="infer"}' in shown.text


@pytest.mark.parametrize("path", ["/", f"/studies/{uid(6)}", "/api/v1/studies", "/nowhere", "/healthz", "/docs"])
def test_every_answer_carries_the_security_headers(web: httpx.Client, path: str) -> None:
    headers = web.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "camera=()" in headers["permissions-policy"]
    assert "strict-transport-security" not in headers, "http is not told to be https"


@pytest.mark.parametrize("path", ["/", f"/studies/{uid(5)}", "/docs", "/nowhere"])
def test_pages_are_whole_without_the_internet(web: httpx.Client, path: str) -> None:
    text = web.get(path).text
    addresses = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert addresses
    assert [address for address in addresses if not address.startswith("/")] == []
    for address in addresses:
        if address.startswith(("/static", "/previews")):
            assert web.get(address).status_code == 200, address
    assert not re.search(r"<style|style=|<script(?! src)|\son[a-z]+=", text), "our policy forbids inline code"


def test_the_api_describes_itself(web: httpx.Client) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    assert {"/api/v1/studies", "/api/v1/studies/{study_instance_uid}", "/healthz", "/readyz", "/metrics"} <= set(paths)
    assert web.get("/redoc").status_code == 404


def test_an_update_is_sent_only_when_something_changed(web: httpx.Client) -> None:
    page = web.get("/").text
    seen = re.search(r'name="seen" value="([0-9a-f]+)"', page)
    assert seen
    assert web.get("/fragments/worklist", params={"seen": seen[1], "page": "1"}).status_code == 204
    other = web.get("/fragments/worklist", params={"seen": seen[1], "show": "urgent"})
    assert other.status_code == 200
    assert 'id="count-urgent" hx-swap-oob="true">2<' in other.text
    study = re.search(r'name="seen" value="([0-9a-f]+)"', web.get(f"/studies/{uid(3)}").text)
    assert study
    assert web.get(f"/fragments/studies/{uid(3)}", params={"seen": study[1]}).status_code == 204
    assert web.get(f"/fragments/studies/{uid(3)}", params={"seen": "x"}).status_code == 200


def test_the_page_says_what_it_is_without_scripts(web: httpx.Client) -> None:
    text = web.get("/?search=Ursula").text
    assert "Live update needs scripts" in text
    assert text.count('class="row-link"') == 1


@pytest.mark.parametrize("query", ["show=odd", "page=-3", "page=99999999999", "page=٣", "page=999", "search=%ff%00"])
def test_the_page_forgives_a_strange_query(web: httpx.Client, query: str) -> None:
    assert web.get(f"/?{query}").status_code == 200


def test_what_a_sender_wrote_is_text_and_no_markup(database: Database, previews: Path, tmp_path: Path) -> None:
    hostile = Database(f"sqlite:///{tmp_path / 'hostile.db'}")
    schema.migrate(hostile)
    text = '"><script>alert(1)</script>'
    fill(hostile).study(
        66, "failed", patient_name=text, patient_id=text, accession_number=text, study_description=text, reason=text,
        modality=text,
    )  # fmt: skip
    app = create_app(hostile, previews_dir=previews, readiness=dict, version="1")
    with served(app) as address:
        for path in ("/", f"/studies/{uid(66)}", "/?search=%22%3E%3Cscript%3Ealert(1)"):
            assert "<script>alert" not in httpx.get(address + path).text
    hostile.dispose()


def test_a_database_that_is_down_is_said_so(tmp_path: Path) -> None:
    """A page and JSON that say what to do; neither a stack trace nor the search in the log."""
    database = Database(f"sqlite:///{tmp_path / 'gone.db'}")  # no schema: every query fails
    app = create_app(database, previews_dir=tmp_path, readiness=dict, version="1")
    with structlog.testing.capture_logs() as logs, served(app) as address:
        page = httpx.get(f"{address}/?search=Ursula")
        as_json = httpx.get(f"{address}/api/v1/studies?search=Ursula")
        alive = httpx.get(f"{address}/healthz")
    database.dispose()
    assert page.status_code == as_json.status_code == 503
    assert "The database does not answer" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert "firstread check" in as_json.json()["detail"]
    assert page.headers["retry-after"] == "5"
    assert alive.status_code == 200
    assert {line["event"] for line in logs} == {"worklist_database_error"}
    assert "ursula" not in repr(logs).lower()


def test_a_postgresql_that_is_down_is_said_so(tmp_path: Path) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    app = create_app(database, previews_dir=tmp_path, readiness=dict, version="1")
    with served(app) as address:
        assert httpx.get(address).status_code == 503
    database.dispose()


def test_the_banner_speaks_of_silence(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'silent.db'}")
    schema.migrate(database)
    app = create_app(database, previews_dir=tmp_path, readiness=dict, version="1", silence_seconds=60)
    with served(app) as address:
        assert "No AI worker" not in httpx.get(address).text
        owe_inference(database, since=timedelta(seconds=30))
        assert "No AI worker" not in httpx.get(address).text
        with database.write() as session:
            session.execute(sa.update(WorkItem).values(not_before=datetime.now(UTC) - timedelta(minutes=7)))
        assert "No AI worker has taken work for 7 min." in httpx.get(address).text
        with database.write() as session:
            session.add(Heartbeat(service="inference-1", at=datetime.now(UTC)))
        assert "No AI worker" not in httpx.get(address).text
    database.dispose()


def test_an_empty_worklist_says_how_to_send(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    schema.migrate(database)
    app = create_app(database, previews_dir=tmp_path, readiness=dict, version="1", send_to="CHEST@10.0.0.1:104")
    with served(app) as address:
        assert "firstread send chest.dcm --to CHEST@10.0.0.1:104" in httpx.get(address).text
    database.dispose()
