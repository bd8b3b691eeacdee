"""Forms that change something come from our own pages, or nothing is changed."""

import pytest
from fastapi.routing import APIRoute

from tests.support.accounts import PASSWORD, Site, events, form_token, log_in, users_of
from worker.accounts.permissions import Role

SAFE = {"GET", "HEAD", "OPTIONS"}


def test_every_address_that_changes_something_wants_a_token(shared: Site) -> None:
    """Whatever is added later is caught here: without its token it answers 403."""
    with shared.logged_in(Role.ADMIN) as client:
        changing = {("POST", "/login"), ("POST", "/logout")}
        for method, path in changing:
            assert client.request(method, path, data={"name": "the-admin"}).status_code == 403, path
            assert client.request(method, path, data={"form_token": "0" * 64}).status_code == 403, path
            assert client.request(method, path, json={}).status_code == 415, path
        assert client.get("/").status_code == 200, "still logged in"
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for path in ("/", "/studies/1.2", "/api/v1/studies", "/previews/6.png", "/audit", "/healthz"):
                assert client.request(method, path).status_code == 405, (method, path)


def test_no_other_route_changes_anything(shared: Site) -> None:
    from worker.worklist.login.door import Door
    from worker.worklist.login.login_page import LoginPage
    from worker.worklist.login.routes import router

    access = type("Access", (), {"provider": None, "logins": None})()
    made = router(Door(shared.database, None), access, LoginPage(shared.database, None, access, None))  # type: ignore[arg-type]
    unsafe = {route.path for route in made.routes if isinstance(route, APIRoute) and route.methods - SAFE}
    assert unsafe == {"/login", "/logout"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "https://evil.example.org"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, 303),
        ({"origin": "null"}, 303),
        ({}, 303),
    ],
)
def test_another_site_is_refused_with_a_token_too(shared: Site, headers: dict[str, str], status: int) -> None:
    users = users_of(shared.database)
    if "forms" not in {user.name for user in users.listed()}:
        users.add("forms", Role.OPS, PASSWORD)
    with shared.client() as client:
        token = form_token(client.get("/login").text)
        fields = {"name": "forms", "password": PASSWORD, "form_token": token}
        assert client.post("/login", data=fields, headers=headers).status_code == status
        assert client.post("/login", data=fields, headers={"origin": shared.address}).status_code in {303, 403}


def test_a_token_of_another_browser_is_refused(shared: Site) -> None:
    with shared.client() as mine, shared.client() as theirs:
        token = form_token(theirs.get("/login").text)
        mine.get("/login")
        assert mine.post("/login", data={"name": "x", "password": "y", "form_token": token}).status_code == 403
        assert "reload it" in mine.post("/login", data={"form_token": token}).text


def test_a_form_that_is_too_long_or_odd_is_refused(shared: Site) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    with shared.client() as client:
        assert client.post("/login", content=b"name=" + b"x" * 20_000, headers=kind).status_code == 413
        assert client.post("/login", content=b"\xff\xfe=1", headers=kind).status_code in {400, 403}
        many = "&".join(f"a{number}=1" for number in range(50))
        assert client.post("/login", content=many.encode(), headers=kind).status_code == 400


def test_logout_wants_the_form_of_this_session(shared: Site) -> None:
    with shared.logged_in(Role.ADMIN) as first, shared.logged_in(Role.ADMIN) as second:
        token = form_token(first.get("/").text)
        assert second.post("/logout", data={"form_token": token}).status_code == 403
        before = len(events(shared.database, "logout"))
        assert first.post("/logout", data={"form_token": token}).headers["location"] == "/login"
        assert first.get("/").status_code == 303
        assert second.get("/").status_code == 200
        assert len(events(shared.database, "logout")) == before + 1
        assert log_in(first, "the-admin", PASSWORD).status_code == 303
