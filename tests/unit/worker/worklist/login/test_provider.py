"""Logging in through a real OpenID Connect provider on this machine, and answers that must not be believed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.accounts import PASSWORD, Site, events, log_in, site, users_of
from tests.support.login_provider import agree, login_provider
from worker.accounts.permissions import Role
from worker.worklist.login.provider import Provider, ProviderSettings

ROLES = (("pacs-admins", Role.ADMIN), ("readers", Role.RADIOLOGIST))


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with login_provider() as address:
        yield address


def provider(issuer: str, **changes: Any) -> Provider:
    settings = {
        "issuer": issuer,
        "client_id": "firstread",
        "client_secret": "a secret",
        "role_claim": "groups",
        "roles": ROLES,
        "name_claim": "preferred_username",
    }
    return Provider(ProviderSettings(**(settings | changes)))


@pytest.fixture(scope="module")
def hospital(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("hospital"), provider=provider(issuer)) as made:
        users_of(made.database).add("ada", Role.OPS, PASSWORD)
        yield made


def to_provider(client: httpx.Client, path: str = "/login/provider") -> str:
    answer = client.get(path)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def through(client: httpx.Client, sub: str, path: str = "/login/provider") -> httpx.Response:
    return client.get(agree(to_provider(client, path), sub))


def test_there_and_back(hospital: Site) -> None:
    with hospital.client() as client:
        assert 'id="provider"' in client.get("/login").text
        asked = to_provider(client, "/login/provider?next=/studies/1.2.3")
        query = parse_qs(urlsplit(asked).query)
        assert query["code_challenge_method"] == ["S256"]
        assert query["response_type"] == ["code"]
        assert query["redirect_uri"] == [f"{hospital.address}/login/provider/back"]
        assert query["state"]
        assert query["nonce"]
        assert "secret" not in asked
        answer = client.get(agree(asked, "grace"))
        assert answer.status_code == 303
        assert answer.headers["location"] == "/studies/1.2.3"
        (made,) = [line for line in answer.headers.get_list("set-cookie") if "session" in line]
        assert "samesite=lax" in made.lower(), "a strict cookie would not come along from the provider's site"
        page = client.get("/")
        assert page.status_code == 200
        assert "grace" in page.text
        assert client.get("/audit").status_code == 403
    (event,) = [event for event in events(hospital.database, "login.succeeded") if event.actor == "grace"]
    assert '"how":"oidc"' in event.detail


def test_who_has_no_role_here_stays_out(hospital: Site) -> None:
    with hospital.client() as client:
        answer = through(client, "nobody")
        assert answer.status_code == 401
        assert "Ask whoever looks after firstread for a role" in answer.text
        assert client.get("/").status_code == 303
    assert "nobody" not in {user.name for user in users_of(hospital.database).listed()}


def test_who_is_called_as_one_of_ours_does_not_become_them(hospital: Site) -> None:
    with hospital.client() as client:
        assert through(client, "ada").status_code == 401
        assert log_in(client, "ada", PASSWORD).status_code == 303


def test_a_claim_within_a_claim_and_the_first_match(issuer: str, tmp_path: Path) -> None:
    keycloak = provider(issuer, role_claim="realm_access.roles")
    with site(tmp_path, provider=keycloak) as made, made.client() as client:
        assert through(client, "root").status_code == 303
        assert client.get("/audit").status_code == 200
        assert [(user.name, user.role) for user in users_of(made.database).listed()] == [("root", "admin")]


def test_an_answer_to_a_question_of_another_browser_is_not_believed(hospital: Site) -> None:
    with hospital.client() as attacker, hospital.client() as victim:
        planted = agree(to_provider(attacker), "grace")
        assert victim.get(planted).status_code == 401, "nothing was under way"
        to_provider(victim)
        assert victim.get(planted).status_code == 401, "the state is another's"
        assert victim.get("/").status_code == 303


@pytest.mark.parametrize("change", ["state", "code", "error", "nothing"])
def test_an_answer_that_was_changed_is_not_believed(hospital: Site, change: str) -> None:
    with hospital.client() as client:
        answer = httpx.URL(agree(to_provider(client), "grace"))
        changed = {
            "state": answer.copy_set_param("state", "x"),
            "code": answer.copy_set_param("code", "x"),
            "error": answer.copy_set_param("error", "access_denied"),
            "nothing": answer.copy_with(query=None),
        }[change]
        assert client.get(changed).status_code == 401
        assert client.get("/").status_code == 303


def test_an_answer_works_once(hospital: Site) -> None:
    with hospital.client() as client:
        answer = agree(to_provider(client), "grace")
        assert client.get(answer).status_code == 303
        assert client.get(answer).status_code == 401


@pytest.mark.parametrize(
    "wrong", [{"nonce": "of another login"}, {"client_id": "somebody else"}, {"iss": "https://evil.example.org"}]
)
def test_an_id_token_that_is_not_for_us_is_not_believed(
    hospital: Site, issuer: str, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider's own answer, read as if another nonce, client or issuer had been asked for."""
    from authlib.integrations.starlette_client.apps import StarletteOAuth2App

    real = StarletteOAuth2App.parse_id_token
    asked: list[dict[str, str]] = []

    async def parse(self: Any, token: Any, nonce: str, claims_options: Any = None, **more: Any) -> Any:
        asked.append({name: claims_options.get(name, {}).get("value") for name in ("iss", "aud")})
        if "iss" in wrong:
            claims_options = claims_options | {"iss": {"essential": True, "value": wrong["iss"]}}
        if "client_id" in wrong:
            claims_options = claims_options | {"aud": {"essential": True, "value": wrong["client_id"]}}
        return await real(self, token, wrong.get("nonce", nonce), claims_options=claims_options, **more)

    monkeypatch.setattr(StarletteOAuth2App, "parse_id_token", parse)
    with hospital.client() as client:
        assert through(client, "grace").status_code == 401
        assert client.get("/").status_code == 303
    assert asked == [{"iss": issuer, "aud": "firstread"}]


def test_a_provider_that_is_away_keeps_nobody_else_out(tmp_path: Path) -> None:
    with site(tmp_path, provider=provider("http://127.0.0.1:1")) as made, made.client() as client:
        users_of(made.database).add("ada", Role.OPS, PASSWORD)
        answer = client.get("/login/provider")
        assert answer.status_code == 503
        assert "does not answer" in answer.text
        assert log_in(client, "ada", PASSWORD).status_code == 303


def test_a_provider_that_calls_itself_otherwise_is_not_asked(issuer: str, tmp_path: Path) -> None:
    other = f"{issuer}/other/.."
    with site(tmp_path, provider=provider(other)) as made, made.client() as client:
        assert client.get("/login/provider").status_code == 503


def test_the_secret_is_shown_nowhere(issuer: str) -> None:
    settings = ProviderSettings(issuer, "firstread", "the-client-secret", "groups", ROLES, "sub")
    assert "the-client-secret" not in repr(settings)
    assert "the-client-secret" not in repr(Provider(settings))
