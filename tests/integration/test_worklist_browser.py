"""The worklist in a real browser: order, words, search, live update, phone, keyboard, contrast; no stranger asked."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import PHONE, Watched, chromium, looking, served
from tests.support.worklist_rows import EXPECTED_ORDER, Rows, draw_previews, fill, owe_inference, uid
from worker import schema
from worker.audit.log import record
from worker.database import Database, Delivery, Study, WorkItem, utc_now
from worker.studies import ACKNOWLEDGED
from worker.worklist.app import create_app

pytestmark = pytest.mark.peer("chromium")

DISCLAIMER = "AI triage aid \N{EN DASH} not for diagnosis"
DASH = "\N{EN DASH}"

CONTRAST = """() => {
  // Text that does not reach the 4.5:1 of WCAG 2.2, 1.4.3 against the nearest opaque surface behind it.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const unseen = ".visually-hidden, .skip, noscript, script, :disabled";
  const poor = [];
  let checked = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest(unseen)) continue;
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    const ground = behind(element);
    const ink = rgba(getComputedStyle(element).color).map((v, i) => v * opacity + ground[i] * (1 - opacity));
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    checked += 1;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${node.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return checked ? poor : ["no text was found"];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    database = Database(f"sqlite:///{tmp_path / 'firstread.db'}")
    schema.migrate(database)
    yield fill(database)
    database.dispose()


@pytest.fixture
def address(rows: Rows, tmp_path: Path) -> Iterator[str]:
    draw_previews(tmp_path / "previews", range(5, 8))
    app = create_app(rows.database, previews_dir=tmp_path / "previews", readiness=dict, version="0.1.0")
    with served(app) as address:
        yield address


@pytest.fixture
def desk(browser: Browser, address: str) -> Iterator[Watched]:
    with looking(browser, address) as watched:
        yield watched
        assert watched.complaints == []
        assert watched.strangers == []


def shown(page: Page) -> list[str]:
    links = page.locator("a.row-link").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    return [link.removeprefix("/studies/") for link in links]


def expect_rows(page: Page, *numbers: int) -> None:
    """Wait until exactly these studies are shown, in this order."""
    expect(page.locator("a.row-link")).to_have_count(len(numbers))
    page.wait_for_function(
        "wanted => JSON.stringify([...document.querySelectorAll('a.row-link')].map(a => a.pathname)) === wanted",
        arg="[" + ",".join(f'"/studies/{uid(number)}"' for number in numbers) + "]",
    )


def test_order_and_words(desk: Watched) -> None:
    page = desk.open()
    assert shown(page) == EXPECTED_ORDER
    assert [text.strip() for text in page.locator("tbody .badge").all_inner_texts()] == [
        "Immediate", "Urgent", "Urgent", "AI failed", "Routine", "AI pending", "None flagged", "Not eligible",
    ]  # fmt: skip
    words = page.locator("tbody .ai").all_inner_texts()
    assert words[0].startswith("AI failed: The pixel data ends after 120 of")
    assert words[1:] == ["AI pending", "No finding flagged", "Not eligible: No model for CT is installed."]
    text = page.locator("body").inner_text()
    assert not re.search(r"\b(negative|normal)\b", text, re.IGNORECASE)
    expect(page.get_by_text(DISCLAIMER)).to_be_in_viewport()
    expect(page.get_by_role("row", name="URGENT, Ursula")).to_contain_text("On its way to ARCHIVE")
    expect(page.get_by_role("row", name="BROKEN, Bert")).to_contain_text("Not delivered to PACS")
    expect(page.get_by_role("row", name="URGENT, Ursula")).to_contain_text("91.4")


def test_the_disclaimer_stays_when_scrolled(rows: Rows, desk: Watched) -> None:
    for number in range(100, 130):
        rows.study(number, "pending", patient_name=f"MANY^{number}")
    page = desk.open()
    page.mouse.wheel(0, 3000)
    page.wait_for_function("window.scrollY > 500")
    expect(page.get_by_text(DISCLAIMER)).to_be_in_viewport()


def test_search_filters_and_keeps_out_of_the_address(desk: Watched) -> None:
    page = desk.open()
    box = page.get_by_role("searchbox")
    box.fill("ursula")
    expect_rows(page, 5)
    expect(page.locator("#count-all")).to_have_text("1")
    box.fill("nobody at all")
    expect(page.get_by_role("heading", name="No study matches")).to_be_visible()
    box.fill("ACC")
    expect_rows(page, 6, 8, 5, 3, 7, 2, 1, 4)
    page.get_by_role("radio", name="Urgent").check()
    expect_rows(page, 8, 5)
    assert page.url == f"{desk.address}/?show=urgent", "a filter may stand in the address, a search must not"
    page.reload()
    expect_rows(page, 8, 5)
    page.get_by_role("radio", name="Not eligible").check()
    expect_rows(page, 4)


def test_a_new_row_and_a_change_appear_without_reload(rows: Rows, desk: Watched) -> None:
    page = desk.open()
    page.evaluate("window.notReloaded = true")
    box = page.get_by_role("searchbox")
    box.fill("ACC-")
    box.focus()
    rows.study(
        9, "complete", "immediate", patient_name="LATE^Lars", accession_number="ACC-9", age=timedelta(minutes=60),
        probabilities={"normal": 0.01, "pneumonia": 0.02, "covid": 0.01, "tuberculosis": 0.96},
    )  # fmt: skip
    expect_rows(page, 9, 6, 8, 5, 3, 7, 2, 1, 4)
    expect(page.locator("#count-immediate")).to_have_text("2")
    expect(page.locator("#summary")).to_contain_text("2 immediate")
    with rows.database.write() as session:
        session.execute(
            sa.update(Study)
            .where(Study.study_instance_uid == uid(2))
            .values(ai_status="failed", reason="The decoder gave up.", rank=2)
        )
    expect(page.get_by_role("row", name="WAITING, Wanda")).to_contain_text("AI failed: The decoder gave up.")
    expect_rows(page, 9, 6, 8, 5, 3, 2, 7, 1, 4)
    expect(box).to_have_value("ACC-")
    expect(box).to_be_focused()
    assert page.evaluate("window.notReloaded")


def test_focus_stays_on_its_study_while_rows_move(rows: Rows, desk: Watched) -> None:
    page = desk.open()
    link = page.locator(f"a[href='/studies/{uid(7)}']")
    link.focus()
    rows.study(9, "pending", "immediate", patient_name="LATE^Lars")
    expect(page.locator("a.row-link")).to_have_count(9)
    expect(link).to_be_focused()


def test_pages(rows: Rows, desk: Watched) -> None:
    for number in range(100, 160):
        rows.study(number, "pending", patient_name=f"MANY^{number}")
    page = desk.open()
    expect(page.locator("a.row-link")).to_have_count(50)
    page.get_by_role("button", name="Less urgent").click()
    expect(page.locator("a.row-link")).to_have_count(18)
    expect(page.get_by_text(f"51{DASH}68 of 68")).to_be_visible()
    rows.study(160, "pending", patient_name="MANY^160")
    expect(page.get_by_text(f"51{DASH}69 of 69")).to_be_visible()
    page.get_by_role("searchbox").fill("ursula")
    expect_rows(page, 5)


def test_the_banner_comes_and_goes(rows: Rows, desk: Watched) -> None:
    page = desk.open()
    expect(page.locator("#silence")).to_have_count(0)
    owe_inference(rows.database, since=timedelta(minutes=4))
    expect(page.locator("#silence")).to_contain_text("No AI worker has taken work for 4 min.")
    with rows.database.write() as session:
        session.execute(sa.update(WorkItem).values(state="done"))
    expect(page.locator("#silence")).to_have_count(0)


def test_an_update_that_fails_is_said_so(rows: Rows, browser: Browser, address: str) -> None:
    """An old list that looks new is dangerous."""
    with looking(browser, address) as watched:
        page = watched.open()
        expect(page.locator("#stale")).to_be_hidden()
        page.route("**/fragments/**", lambda route: route.abort())
        expect(page.locator("#stale")).to_be_visible()
        page.unroute("**/fragments/**")
        expect(page.locator("#stale")).to_be_hidden()
        page.route("**/fragments/**", lambda route: route.fulfill(status=503, body="{}"))
        expect(page.locator("#stale")).to_be_visible()


def test_a_hidden_page_does_not_ask(desk: Watched) -> None:
    page = desk.open()
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true})")
    page.evaluate("window.away = true")
    with page.expect_request("**/fragments/**"):
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("window.away = true")
    asked = len(desk.requests)
    # Two of its own rounds pass, as the page counts them.
    page.evaluate("() => new Promise(done => setTimeout(done, 4500))")
    assert len(desk.requests) == asked


def test_keyboard_alone_reaches_a_study(desk: Watched) -> None:
    page = desk.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('row-link')"):
            break
    expect(page.locator(f"a[href='/studies/{uid(6)}']")).to_be_focused()
    outline = "getComputedStyle(document.activeElement, '::after').outlineStyle"
    assert page.evaluate(outline) == "solid", "focus is seen"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("YAMADA, Tarou")
    assert "YAMADA" not in page.title(), "a browser keeps titles in its history"


def test_the_study_page(desk: Watched) -> None:
    page = desk.open(f"/studies/{uid(6)}")
    expect(page.locator("#reason")).to_contain_text("PatientID differs")
    findings = page.locator(".finding")
    assert [name.strip() for name in findings.locator(".finding-name").all_inner_texts()] == [
        "Tuberculosis", "Pneumonia", "COVID-19",
    ]  # fmt: skip
    expect(findings.nth(0)).to_contain_text("Flagged")
    expect(findings.nth(0)).to_contain_text("Threshold 50.0")
    expect(findings.nth(0)).to_contain_text("chest-film 1.0.0")
    expect(findings.nth(1)).to_contain_text("Not flagged")
    assert findings.nth(0).locator(".bar-fill").get_attribute("width") == "97.30"
    image = page.locator(".image-first img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 512
    instances = page.locator("table.instances tbody tr")
    expect(instances).to_have_count(2)
    for words in ("Classified", "normal", "tuberculosis", "XRAY_ROOM_2", "SHA-256", "keras on CPU"):
        expect(instances.nth(0)).to_contain_text(words)
    expect(page.get_by_text(DISCLAIMER)).to_be_in_viewport()


def test_an_acknowledged_failure_is_marked_and_keeps_its_place(rows: Rows, desk: Watched) -> None:
    page = desk.open()
    expect(page.locator(".row-acknowledged")).to_have_count(0)
    with rows.database.write() as session:
        known = sa.update(Study).where(sa.column("study_instance_uid") == uid(3))
        session.execute(known.values(failure_acknowledged_at=utc_now()))
        record(session, ACKNOWLEDGED, uid(3), {}, actor="operator (uid 7)")
    expect(page.locator(".row-acknowledged")).to_contain_text("Acknowledged on 20")
    assert shown(page) == EXPECTED_ORDER
    assert page.evaluate(CONTRAST) == []
    desk.open(f"/studies/{uid(3)}")
    expect(page.locator("#acknowledged")).to_contain_text("by operator (uid 7)")
    assert page.locator("main").inner_text().count("ends after 120 of 8388608") == 1, "why is said once"


def test_the_study_page_shows_deliveries_live(rows: Rows, desk: Watched) -> None:
    page = desk.open(f"/studies/{uid(5)}")
    newest = page.locator(".reports li").first
    expect(newest).to_contain_text("generation 2")
    expect(newest).to_contain_text("no answer within 10 s")
    expect(page.locator(".reports li").nth(1)).to_contain_text("superseded")
    with rows.database.write() as session:
        session.execute(sa.update(Delivery).values(status="failed", attempts=7, last_error="0122 refused"))
    expect(newest).to_contain_text("0122 refused")
    expect(newest).to_contain_text("7 attempts")


def test_every_state_has_its_page(desk: Watched) -> None:
    for number in range(1, 9):
        page = desk.open(f"/studies/{uid(number)}")
        assert not re.search(r"\b(negative|healthy)\b", page.locator("body").inner_text(), re.IGNORECASE)
        status = page.locator("#ai-status").inner_text()
        assert status.startswith(("AI pending", "AI failed: ", "Not eligible: ", "No finding flagged", "1 f", "2 f"))


def test_docs_work_offline(desk: Watched) -> None:
    page = desk.open("/docs")
    expect(page.get_by_text("/api/v1/studies", exact=True).first).to_be_visible()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_phone(browser: Browser, address: str, rows: Rows, scheme: str) -> None:
    owe_inference(rows.database, since=timedelta(minutes=4))
    options = {"viewport": PHONE, "color_scheme": scheme, "has_touch": True, "is_mobile": True}
    with looking(browser, address, **options) as watched:
        for path in ("/nowhere", f"/studies/{uid(6)}", f"/studies/{uid(3)}", "/"):
            page = watched.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
            expect(page.get_by_text(DISCLAIMER)).to_be_in_viewport()
            assert page.evaluate(CONTRAST) == [], path
        assert shown(page) == EXPECTED_ORDER
        expect(page.get_by_role("table")).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(9)
        page.get_by_role("row", name="URGENT, Ursula").tap()
        expect(page.get_by_role("heading", level=1)).to_have_text("URGENT, Ursula")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_contrast(browser: Browser, address: str, rows: Rows, scheme: str) -> None:
    owe_inference(rows.database, since=timedelta(minutes=4))
    with looking(browser, address, color_scheme=scheme) as watched:
        for path in ("/", *(f"/studies/{uid(number)}" for number in range(2, 8))):
            assert watched.open(path).evaluate(CONTRAST) == [], path


def test_without_scripts_the_list_is_there(browser: Browser, address: str) -> None:
    with looking(browser, address, java_script_enabled=False) as watched:
        page = watched.open("/?search=ursula")
        expect(page.get_by_role("link", name="URGENT, Ursula")).to_be_visible()
