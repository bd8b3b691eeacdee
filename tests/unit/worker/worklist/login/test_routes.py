"""The login over HTTP: cookies, renewal, throttling, where it leads, and the link that works once."""

from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.support.accounts import LIFETIME, PASSWORD, Site, events, form_token, log_in, logins_of, site, users_of
from tests.support.worklist_rows import uid
from worker.accounts.permissions import Role
from worker.database import LoginFailure, LoginSession, utc_now


@pytest.fixture(autouse=True)
def _fresh_start(shared: Site) -> None:
    with shared.database.write() as session:
        session.execute(sa.delete(LoginFailure))
    if "ada" not in {user.name for user in users_of(shared.database).listed()}:
        users_of(shared.database).add("ada", Role.RADIOLOGIST, PASSWORD)


def session_cookie(client: httpx.Client) -> tuple[str, str]:
    ((name, value),) = [(name, value) for name, value in client.cookies.items() if "session" in name]
    return name, value


def test_the_cookie_is_for_us_alone(shared: Site) -> None:
    with shared.client() as client:
        answer = log_in(client, "ada", PASSWORD)
        (made,) = [line for line in answer.headers.get_list("set-cookie") if "session" in line]
    assert "HttpOnly" in made
    assert "samesite=strict" in made.lower()
    assert "Path=/" in made
    assert "Domain" not in made
    assert "Secure" not in made, "over http it would not come back"
    assert f"-{httpx.URL(shared.address).port}=" in made


def test_a_login_renews_the_session_and_ends_the_one_before(shared: Site) -> None:
    with shared.client() as client:
        log_in(client, "ada", PASSWORD)
        name, first = session_cookie(client)
        assert client.get(f"/login/link/{logins_of(shared.database).new_link(actor='up')}").status_code == 303
        assert session_cookie(client)[1] != first
    with shared.client(cookies={name: first}) as thief:
        assert thief.get("/").status_code == 303


def test_a_session_that_was_planted_is_not_taken_up(shared: Site) -> None:
    name = f"firstread-session-{httpx.URL(shared.address).port}"
    with shared.client(cookies={name: "chosen-by-somebody-else"}) as client:
        log_in(client, "ada", PASSWORD)
        assert client.get("/").status_code == 200
    with shared.client(cookies={name: "chosen-by-somebody-else"}) as thief:
        assert thief.get("/").status_code == 303


def test_a_refusal_says_the_same_whoever_it_is(shared: Site) -> None:
    with shared.client() as client:
        wrong, unknown = log_in(client, "ada", "wrong"), log_in(client, "nobody", "wrong")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.text == unknown.text
    assert "The name or the password is wrong" in wrong.text
    assert 'role="alert"' in wrong.text


def test_too_many_are_told_how_long_to_wait(shared: Site) -> None:
    with shared.client() as client:
        for _ in range(5):
            assert log_in(client, "ada", "wrong").status_code == 401
        slow = log_in(client, "ada", PASSWORD)
    assert slow.status_code == 429
    assert 1 <= int(slow.headers["retry-after"]) <= 2
    assert "Too many logins failed. Try again in" in slow.text


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        (f"/studies/{uid(6)}", f"/studies/{uid(6)}"),
        ("/audit", "/audit"),
        ("https://evil.example.org", "/"),
        ("//evil.example.org", "/"),
        ("/\\evil.example.org", "/"),
        ("/login", "/"),
        ("/logout", "/"),
        ("\t//evil.example.org", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_nowhere_else(shared: Site, wanted: str, led_to: str) -> None:
    with shared.client() as client:
        assert log_in(client, "ada", PASSWORD, next=wanted).headers["location"] == led_to
        assert client.get("/login", params={"next": wanted}).headers["location"] == led_to


def test_who_comes_without_login_comes_back_to_where_they_were_without_the_search(shared: Site) -> None:
    with shared.client() as client:
        assert client.get(f"/studies/{uid(6)}").headers["location"] == f"/login?next=/studies/{uid(6)}"
        assert client.get("/?search=Ursula").headers["location"] == "/login"
        fragment = client.get(f"/fragments/studies/{uid(6)}", params={"seen": "x"})
        assert fragment.headers["hx-redirect"] == f"/login?next=/studies/{uid(6)}"
        assert client.get("/fragments/worklist?search=Ursula").headers["hx-redirect"] == "/login"


def test_an_idle_session_ends_though_its_page_refreshes(shared: Site) -> None:
    with shared.client() as client:
        log_in(client, "ada", PASSWORD)
        with shared.database.write() as session:
            session.execute(
                sa.update(LoginSession).values(seen_at=utc_now() - logins_of(shared.database).lifetime.idle)
            )
        assert client.get("/fragments/worklist", headers={"hx-trigger": "live"}).status_code == 401
        assert client.get("/").status_code == 303


def test_a_page_that_refreshes_itself_is_nobody_and_a_click_is_somebody(shared: Site) -> None:
    def seen() -> object:
        with shared.database.read() as session:
            return session.scalars(sa.select(LoginSession.seen_at).order_by(LoginSession.created_at.desc())).first()

    with shared.client() as client:
        log_in(client, "ada", PASSWORD)
        with shared.database.write() as session:
            session.execute(sa.update(LoginSession).values(seen_at=utc_now() - LIFETIME.idle / 2))
        before = seen()
        assert client.get("/fragments/worklist", headers={"hx-trigger": "live"}).status_code == 200
        assert seen() == before
        assert client.get("/fragments/worklist", headers={"hx-trigger": "filters"}).status_code == 200
        assert seen() != before


def test_a_link_logs_in_once_here_and_is_not_spent_by_a_prefetch(shared: Site) -> None:
    link = f"/login/link/{logins_of(shared.database).new_link(actor='up')}"
    with shared.client() as client:
        assert client.get(link, headers={"sec-purpose": "prefetch;prerender"}).status_code == 204
        assert client.get(link).headers["location"] == "/"
        assert "YAMADA" in client.get("/").text
        assert client.get("/audit").status_code == 200
    with shared.client() as other:
        spent = other.get(link)
        assert spent.status_code == 401
        assert "firstread users link" in spent.text
        assert other.get("/").status_code == 303


def test_a_link_opens_nothing_beyond_this_machine(tmp_path: Path) -> None:
    with site(tmp_path, loopback=False) as made, made.client() as client:
        token = logins_of(made.database).new_link(actor="up")
        assert client.get(f"/login/link/{token}").status_code == 401
        assert [event.subject for event in events(made.database, "login.failed")] == ["unknown"]
    with site(tmp_path / "other") as made, made.client() as client:
        token = logins_of(made.database).new_link(actor="up")
        assert client.get(f"/login/link/{token}", headers={"host": "worklist.example.org"}).status_code == 401
        assert client.get(f"/login/link/{token}").status_code == 303, "who came wrongly did not spend it"


def test_https_through_a_proxy_that_is_trusted(tmp_path: Path) -> None:
    with site(tmp_path, loopback=False, trusted_proxies=("127.0.0.1",)) as made, made.client() as client:
        users_of(made.database).add("ada", Role.RADIOLOGIST, PASSWORD)
        client.headers.update({"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.44"})
        page = client.get("/login")
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        (made_cookie,) = page.headers.get_list("set-cookie")
        assert made_cookie.startswith("__Host-firstread-form=")
        assert "Secure" in made_cookie
        value = made_cookie.partition("=")[2].partition(";")[0]
        fields = {"name": "ada", "password": PASSWORD, "form_token": form_token(page.text)}
        answer = client.post("/login", data=fields, headers={"cookie": f"__Host-firstread-form={value}"})
        (session,) = [line for line in answer.headers.get_list("set-cookie") if "session" in line]
        assert session.startswith("__Host-firstread-session=")
        assert "Secure" in session
        (event,) = events(made.database, "login.succeeded")
        assert '"from":"192.0.2.44"' in event.detail


def test_a_proxy_that_is_not_trusted_is_not_believed(tmp_path: Path) -> None:
    with site(tmp_path, loopback=False, trusted_proxies=("192.0.2.9",)) as made, made.client() as client:
        client.headers.update({"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.44"})
        page = client.get("/login")
        assert "strict-transport-security" not in page.headers
        assert "__Host" not in page.headers["set-cookie"]
        log_in(client, "nobody", "wrong")
        (event,) = events(made.database, "login.failed")
        assert '"from":"127.0.0.1"' in event.detail
