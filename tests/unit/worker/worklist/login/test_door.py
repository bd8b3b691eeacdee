"""Who may see what, over HTTP: each role, each permission, machines, and the time before there is an account."""

import json
import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from tests.support.accounts import Site, events, log_in, site, tokens_of, users_of
from tests.support.worklist_rows import uid
from worker import metrics
from worker.accounts import throttle
from worker.accounts.permissions import Permission, Role
from worker.accounts.secrets import digest
from worker.database import Database, LoginFailure, utc_now
from worker.worklist.app import create_app
from worker.worklist.login.door import OPEN_PATHS

STUDY = f"/studies/{uid(6)}"
SHOWS = {
    "/": Permission.STUDIES,
    "/fragments/worklist": Permission.STUDIES,
    STUDY: Permission.STUDIES,
    f"/fragments{STUDY}": Permission.STUDIES,
    "/api/v1/studies": Permission.STUDIES,
    f"/api/v1{STUDY}": Permission.STUDIES,
    "/previews/6.png": Permission.IMAGES,
    "/audit": Permission.AUDIT,
    "/api/v1/audit": Permission.AUDIT,
}
"""Every address that shows something, and what one has to be allowed for it."""
OPEN = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/static",
    "/login",
    "/logout",
    "/login/link/{token}",
}
NAMES = ("YAMADA", "Tarou", "PID-0006", "ACC-6", "Ursula")
"""Parts of names and numbers of the patients in the rows."""


def names_in(text: str) -> list[str]:
    return [name for name in NAMES if name in text]


def test_every_address_is_in_this_file(tmp_path: Path) -> None:
    """Whoever adds a route says here what it shows."""
    database = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
    app = create_app(database, previews_dir=tmp_path, readiness=dict, version="1")
    known = {re.sub(r"1\.2\.[0-9.]+", "{study_instance_uid}", path) for path in SHOWS} | OPEN
    known = {path.replace("/previews/6", "/previews/{instance_id}") for path in known}
    paths = set()
    todo = list(app.routes)
    while todo:
        route = todo.pop()
        todo += getattr(getattr(route, "original_router", None), "routes", [])
        if isinstance(route, APIRoute):
            paths.add(route.path)
    database.dispose()
    assert paths
    assert paths <= known, paths - known


def test_every_route_is_behind_the_door_or_open_by_name(tmp_path: Path) -> None:
    """FastAPI adds routes of its own, to which the dependencies of the application do not apply."""
    database = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
    app = create_app(database, previews_dir=tmp_path, readiness=dict, version="1")
    todo, outside = list(app.routes), set()
    while todo:
        route = todo.pop()
        todo += getattr(getattr(route, "original_router", None), "routes", [])
        if not isinstance(route, APIRoute) and (path := getattr(route, "path", None)):
            outside.add(path)
    database.dispose()
    assert "/openapi.json" in outside
    assert outside - {"/static"} <= OPEN_PATHS


@pytest.mark.parametrize("path", SHOWS)
def test_nobody_sees_anything(shared: Site, path: str) -> None:
    with shared.logged_in(Role.OPS), shared.client() as client:  # there is an account
        answer = client.get(path)
    assert names_in(answer.text) == []
    if path.startswith(("/api/", "/previews/")):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    elif path.startswith("/fragments/"):
        assert answer.status_code == 401
        assert answer.headers["hx-redirect"].startswith("/login")
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("role", Role)
def test_each_role_sees_what_the_matrix_says(shared: Site, role: Role) -> None:
    from worker.accounts.permissions import MATRIX

    with shared.logged_in(role) as client:
        for path, permission in SHOWS.items():
            answer = client.get(path)
            if permission in MATRIX[role]:
                assert answer.status_code == 200, path
            elif path == "/":
                assert answer.headers["location"] == "/audit"
            else:
                assert answer.status_code == 403, path
                assert str(role) in answer.text
            if Permission.PATIENTS not in MATRIX[role]:
                assert names_in(answer.text) == [], path


def test_ops_see_states_and_uids_and_nobody_s_name(shared: Site) -> None:
    with shared.logged_in(Role.OPS) as client:
        (study, *_) = client.get("/api/v1/studies").json()
        detail = client.get(f"/api/v1{STUDY}").json()
        page, listed = client.get(STUDY).text, client.get("/").text
        assert client.get("/api/v1/studies", params={"search": "Ursula"}).status_code == 403
        searched = client.get("/", params={"search": "Ursula"}).text
    assert study["study_instance_uid"] == uid(6)
    for document in (study, detail):
        assert [document[key] for key in ("patient_name", "patient_id", "accession_number", "study_description")] == [
            None
        ] * 4
    assert {instance["patient_id"] for instance in detail["instances_detail"]} == {None}
    assert {series["series_description"] for series in detail["series"]} == {None}
    assert uid(6) in page
    assert "withheld" in page
    assert "sees no pictures" in page
    assert "/previews/" not in page
    assert 'type="search"' not in listed
    assert searched.count('class="row-link"') == 8, "what a search finds would tell what it looked for"
    with shared.logged_in(Role.RADIOLOGIST) as client:
        assert names_in(client.get(STUDY).text) == ["YAMADA", "Tarou", "PID-0006", "ACC-6"]
        assert 'type="search"' in client.get("/").text


def test_a_refusal_is_an_audit_event_once(shared: Site) -> None:
    with shared.logged_in(Role.AUDITOR) as client:
        for _ in range(3):
            assert client.get(STUDY).status_code == 403
        assert client.get("/").status_code == 303
    told = [event for event in events(shared.database, "access.refused") if event.actor == "the-auditor"]
    assert [event.subject for event in told][-1:] == ["studies"]
    key = [json.loads(event.detail)["from"] for event in told]
    assert set(key) == {"127.0.0.1"}


def test_a_machine_with_a_token(shared: Site) -> None:
    _, secret = tokens_of(shared.database).add("ris", Role.OPS, timedelta(days=1))
    with shared.client(headers={"authorization": f"Bearer {secret}"}) as client:
        answer = client.get("/api/v1/studies")
        assert answer.status_code == 200
        assert names_in(answer.text) == []
        assert client.get("/previews/6.png").status_code == 403
        tokens_of(shared.database).revoke("ris")
        assert client.get("/api/v1/studies").status_code == 401
    actors = {event.actor for event in events(shared.database, "studies.listed")}
    assert "token ris" in actors


@pytest.mark.parametrize("header", ["Bearer nonsense", "bearer two words", "Bearer", "Bearer \xff"])
def test_a_bad_token_opens_nothing_not_even_beside_a_session(shared: Site, header: str) -> None:
    with shared.logged_in(Role.ADMIN) as client:
        answer = client.get("/api/v1/studies", headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert "opens nothing" in answer.json()["detail"]


def test_the_token_of_the_setting(tmp_path: Path) -> None:
    token = "a token of twenty and more"
    with site(tmp_path, api_token_sha256=digest(token)) as made, made.client() as client:
        assert client.get("/api/v1/studies").status_code == 401, "a token closes the door for all others"
        for wrong in (token[:-1], token + "x", token.upper()):
            assert client.get("/api/v1/studies", headers={"authorization": f"Bearer {wrong}"}).status_code == 401
        answer = client.get("/api/v1/studies", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert "YAMADA" in answer.text
        assert client.get("/api/v1/audit", headers={"authorization": f"Bearer {token}"}).status_code == 403
        assert token not in "".join(event.detail + event.subject + event.actor for event in events(made.database))


def test_wrong_tokens_are_slowed_and_counted(tmp_path: Path) -> None:
    token = "a token of twenty and more"
    refused, throttled = (metrics.logins.labels(how="token", outcome=outcome) for outcome in ("refused", "throttled"))
    before = refused._value.get(), throttled._value.get()
    with site(tmp_path, api_token_sha256=digest(token)) as made, made.client() as client:
        wrong, right = ({"authorization": f"Bearer {one}"} for one in (token + "x", token))
        for _ in range(throttle.FREE_BY_ADDRESS):
            assert client.get("/api/v1/studies", headers=wrong).status_code == 401
        answer = client.get("/api/v1/studies", headers=right)
        assert answer.status_code == 429, "while a wait lasts nothing is looked at"
        assert int(answer.headers["retry-after"]) >= 1
        with made.database.write() as session:
            session.execute(sa.update(LoginFailure).values(blocked_until=utc_now()))
        assert client.get("/api/v1/studies", headers=right).status_code == 200
    assert (refused._value.get(), throttled._value.get()) == (before[0] + throttle.FREE_BY_ADDRESS, before[1] + 1)


def test_before_there_is_an_account_this_machine_reads_the_json_interface_and_nothing_else(tmp_path: Path) -> None:
    with site(tmp_path) as made, made.client() as client:
        answer = client.get("/api/v1/studies")
        assert answer.status_code == 200
        assert "YAMADA" in answer.text
        assert client.get(f"/api/v1{STUDY}").status_code == 200
        assert client.get("/api/v1/audit").status_code == 403
        assert client.get("/").headers["location"] == "/login"
        assert "Nobody can log in yet" in client.get("/login").text
        assert client.get("/previews/6.png").status_code == 401
        assert [event.actor for event in events(made.database, "studies.listed")] == ["anybody on this machine"]
        port = httpx.URL(made.address).port
        for headers in (
            {"host": f"worklist.example.org:{port}"},  # a name of somebody else's that leads here: DNS rebinding
            {"x-forwarded-for": "192.0.2.1"},
            {"x-real-ip": "192.0.2.1"},
            {"forwarded": "for=192.0.2.1"},
            {"via": "1.1 proxy"},
        ):
            refused = client.get("/api/v1/studies", headers=headers)
            assert refused.status_code == 401, headers
            assert "firstread users add" in refused.json()["detail"]
        assert client.get("/api/v1/studies", headers={"host": f"localhost:{port}"}).status_code == 200
        users_of(made.database).add("ada", Role.ADMIN, "a long enough password")
        assert client.get("/api/v1/studies").status_code == 401
        users_of(made.database).disable("ada")
        assert client.get("/api/v1/studies").status_code == 401, "taking the last one away opens nothing"


def test_beyond_loopback_nothing_is_shown_before_somebody_can_log_in(tmp_path: Path) -> None:
    with site(tmp_path, loopback=False) as made, made.client() as client:
        answer = client.get("/api/v1/studies")
        assert answer.status_code == 401
        for word in ("firstread users add", "firstread tokens add", "FIRSTREAD_API_TOKEN", "FIRSTREAD_OIDC_ISSUER"):
            assert word in answer.json()["detail"]
        assert "firstread users add" in client.get("/", follow_redirects=True).text
        assert client.get("/healthz").status_code == 200
        users_of(made.database).add("ada", Role.RADIOLOGIST, "a long enough password")
        assert log_in(client, "ada", "a long enough password").status_code == 303
        assert "YAMADA" in client.get("/").text


def test_the_interface_says_what_opens_it(shared: Site) -> None:
    with shared.client() as client:
        described = client.get("/openapi.json").json()
    schemes = described["components"]["securitySchemes"]
    assert schemes["HTTPBearer"] | {"description": ""} == {"type": "http", "scheme": "bearer", "description": ""}
    assert schemes["APIKeyCookie"]["in"] == "cookie"
    for path in ("/api/v1/studies", "/api/v1/studies/{study_instance_uid}", "/api/v1/audit"):
        operation = described["paths"][path]["get"]
        assert operation["security"] == [{"HTTPBearer": []}, {"APIKeyCookie": []}]
        assert {"401", "403"} <= set(operation["responses"])
