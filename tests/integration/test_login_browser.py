"""The login in a real browser: by keyboard, on a phone, dark and light, through a provider; and the docs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect

from tests.integration.test_worklist_browser import CONTRAST
from tests.support.accounts import LIFETIME, PASSWORD, Site, logins_of, site, users_of
from tests.support.browser import PHONE, chromium, looking
from tests.support.login_provider import login_provider
from tests.support.worklist_rows import uid
from worker.accounts.permissions import Role
from worker.audit.log import operator, record
from worker.database import LoginSession, utc_now
from worker.worklist.login.provider import Provider, ProviderSettings

LINES = """cell => {
  const text = document.createRange();
  text.selectNodeContents(cell);
  return new Set([...text.getClientRects()].map((line) => Math.round(line.top))).size;
}"""
"""How many lines the text of a cell takes."""

pytestmark = pytest.mark.peer("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as made:
        users_of(made.database).add("ada.lovelace", Role.RADIOLOGIST, PASSWORD)
        users_of(made.database).add("olaf", Role.OPS, PASSWORD)
        users_of(made.database).add("audra", Role.AUDITOR, PASSWORD)
        yield made


def fill_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_by_keyboard_in_and_out(browser: Browser, ward: Site) -> None:
    with looking(browser, ward.address) as watched:
        page = watched.open(f"/studies/{uid(6)}")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("Ada.Lovelace")
        page.keyboard.press("Tab")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong")
        fill_in(page, "ada.lovelace")
        expect(page.get_by_role("heading", level=1)).to_contain_text("YAMADA, Tarou")
        image = page.locator(".image-first img")
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 512
        assert page.evaluate("document.cookie") == "", "no script reads our cookies"
        menu = page.locator("details.user summary")
        menu.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("Radiologist", exact=True)).to_be_visible()
        page.get_by_role("button", name="Log out").press("Enter")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        assert "YAMADA" not in page.content()
        assert [one for one in watched.complaints if "401" not in one] == []
        assert watched.strangers == []


def test_an_open_page_goes_to_the_login_when_the_session_ends(browser: Browser, ward: Site) -> None:
    with looking(browser, ward.address) as watched:
        page = watched.open()
        fill_in(page, "ada.lovelace")
        expect(page.locator("a.row-link")).to_have_count(8)
        with ward.database.write() as session:
            session.execute(sa.update(LoginSession).values(seen_at=utc_now() - LIFETIME.idle))
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        assert "YAMADA" not in page.content(), "nobody's name stays on a screen that nobody sits at"


def test_each_role_has_its_page(browser: Browser, ward: Site) -> None:
    with looking(browser, ward.address) as watched:
        page = watched.open()
        fill_in(page, "olaf")
        expect(page.locator("a.row-link")).to_have_count(8)
        expect(page.locator("a.row-link").first).to_have_text("withheld")
        expect(page.get_by_role("searchbox")).to_have_count(0)
        page.get_by_role("radio", name="Urgent").check()
        expect(page.locator("a.row-link")).to_have_count(2)
        page.locator("a.row-link").first.click()
        expect(page.get_by_text("Your role (ops) sees no pictures.")).to_be_visible()
        assert watched.complaints == []
    with looking(browser, ward.address) as watched:
        page = watched.open()
        fill_in(page, "audra")
        expect(page.get_by_role("heading", name="Audit trail")).to_be_visible()
        expect(page.get_by_role("row", name="login.succeeded").first).to_contain_text("audra")
        page.get_by_role("link", name="firstread").click()
        expect(page.get_by_role("heading", name="Audit trail")).to_be_visible()
        assert watched.complaints == []


def test_the_audit_page_keeps_words_whole_and_says_the_day(browser: Browser, ward: Site) -> None:
    with ward.database.write() as session:
        told = (
            "failure.acknowledged",
            f"2.25.{'1' * 38}",
            {"destination": "PACS@192.0.2.10:104", "sop": "1.2.840." * 6},
        )
        record(session, *told, actor=operator())
    with looking(browser, ward.address, viewport={"width": 1300, "height": 800}) as watched:
        page = watched.open(f"/login/link/{logins_of(ward.database).new_link(actor='up')}")
        expect(page.locator("a.row-link")).to_have_count(8)
        watched.open("/audit")
        row = page.get_by_role("row", name="failure.acknowledged")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", row.locator("time").inner_text())
        heights = [row.get_by_role("cell").nth(n).evaluate(LINES) for n in range(1, 4)]
        assert heights == [1, 1, 1], "who, what and the UID have a line each"
        assert watched.complaints == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_phone_and_contrast(browser: Browser, ward: Site, scheme: str) -> None:
    options = {"viewport": PHONE, "color_scheme": scheme, "has_touch": True, "is_mobile": True}
    with looking(browser, ward.address, **options) as watched:
        page = watched.open("/login")
        page.get_by_label("Name").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").tap()
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        link = f"/login/link/{logins_of(ward.database).new_link(actor='up')}"
        page = watched.open(link)
        expect(page.locator("a.row-link")).to_have_count(8)
        for path in ("/", "/audit"):
            watched.open(path)
            page.locator("details.user summary").tap()
            expect(page.get_by_role("button", name="Log out")).to_be_in_viewport()
            assert page.evaluate(CONTRAST) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


def test_without_scripts_one_can_log_in(browser: Browser, ward: Site) -> None:
    with looking(browser, ward.address, java_script_enabled=False) as watched:
        page = watched.open("/")
        fill_in(page, "ada.lovelace")
        expect(page.get_by_role("link", name="URGENT, Ursula")).to_be_visible()


def test_through_a_provider(browser: Browser, tmp_path: Path) -> None:
    with login_provider() as issuer:
        roles = (("readers", Role.RADIOLOGIST),)
        provider = Provider(ProviderSettings(issuer, "firstread", "secret", "groups", roles, "preferred_username"))
        with site(tmp_path, provider=provider) as made, looking(browser, made.address) as watched:
            page = watched.open(f"/studies/{uid(6)}")
            page.get_by_role("link", name="Log in through").click()
            page.get_by_role("button", name="grace").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("YAMADA, Tarou")
            expect(page.locator(".user-name")).to_have_text("grace")


def test_the_docs_need_no_inline_style(browser: Browser, ward: Site) -> None:
    """Everything of them opened and used, and the strict policy forbids nothing that they do."""
    with looking(browser, ward.address) as watched:
        page = watched.open(f"/login/link/{logins_of(ward.database).new_link(actor='up')}")
        policy = page.goto(f"{ward.address}/docs").headers["content-security-policy"]
        assert "unsafe" not in policy
        page.get_by_role("button", name="Authorize").click()
        expect(page.get_by_text("FIRSTREAD_API_TOKEN").first).to_be_visible()
        page.get_by_role("button", name="Close").first.click()
        page.get_by_role("button", name="GET /api/v1/studies Studies").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.get_by_text("study_instance_uid").first).to_be_visible()
        expect(page.locator(".response .status, .response-col_status").filter(has_text="200").first).to_be_visible()
        assert watched.complaints == []
        assert watched.strangers == []
