"""The pages in a real browser: home, and the handset dialling through the simulator's wire.

Most tests dial a stand-in of four fixed screens, so that what is shown and posted is compared word for
word; the last one dials the real service, and with SHOTS=docs takes the README's pictures of it.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from gateway.pages import page_routes
from tests.stand_in import AGE, BACK_AGAIN, CODE, CONSENT, HEALTH, HOOK, ROOT, THANKS, StandIn, serving, wave
from tests.stores import missing, wait_until

FAILURE = "Connection problem or invalid MMI code."
LAUNCH = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
MOST_OCTETS = 60_000


@pytest.fixture(scope="module")  # its event loop must not run on into other files' tests
def browser() -> Iterator[Browser]:
    """Chromium as installed; its name in the skip where it is not."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("chromium")
        return
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=LAUNCH)
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Browser, url: str, failing: bool = False, **options: Any) -> Iterator[Page]:
    """A page in a fresh profile. At its end: nothing in the console, nobody else's host asked.

    `failing`: the test makes requests fail, which browsers write into the console themselves.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    page = context.new_page()
    faults: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert hosts == {url.split("/")[2]}
    if failing:
        faults = [fault for fault in faults if "Failed to load resource" not in fault]
    assert faults == []


@pytest.fixture
def gateway() -> Iterator[StandIn]:
    with serving(StandIn()) as stand_in:
        yield stand_in


@pytest.fixture
def handset(browser: Browser, gateway: StandIn) -> Iterator[Page]:
    with opened(browser, gateway.url + "/handset") as page:
        yield page


def press(page: Page, keys: str) -> None:
    """Presses number keys on the phone itself."""
    for key in keys:
        page.click(f'.keypad [data-key="{key}"]')


def dial(page: Page, keys: str = CODE) -> None:
    press(page, keys)
    page.click("[data-press=call]")


def expect_screen(page: Page, text: str) -> None:
    expect(page.locator("#screen")).to_have_text(text, use_inner_text=True)
    expect(page.locator("#phone")).to_have_attribute("data-state", re.compile("open|message"))


def transcript(page: Page) -> str:
    return page.locator("#log").text_content() or ""


def settle(gateway: StandIn, notices: int) -> None:
    wait_until(lambda: len(gateway.notices) == notices, f"notice {notices}", 5)


# ---------------------------------------------------------------- the dialogue


def test_a_whole_interview_on_the_keys_of_the_phone(handset: Page, gateway: StandIn) -> None:
    dial(handset)
    expect_screen(handset, CONSENT)
    assert handset.locator("#count").text_content() == f"{len(CONSENT)}/160"
    press(handset, "1")
    handset.click("#soft-left")
    expect_screen(handset, AGE)
    press(handset, "34")
    handset.click("[data-press=call]")  # the call key sends too, as on many phones
    expect_screen(handset, HEALTH)
    press(handset, "2")
    handset.click("#soft-left")
    expect_screen(handset, THANKS)
    expect(handset.locator("#reply")).to_be_hidden()
    handset.click("#soft-left")
    expect(handset.locator("#phone")).to_have_attribute("data-state", "idle")

    assert [(hop.sequence, hop.text) for hop in gateway.hops] == [(1, ""), (2, "1"), (3, "34"), (4, "2")]
    assert {hop.service_code for hop in gateway.hops} == {CODE}
    assert {hop.network_code for hop in gateway.hops} == {"99999"}
    assert len({hop.session for hop in gateway.hops}) == 1
    settle(gateway, 1)
    notice = gateway.notices[0]
    assert (notice.session, notice.status, notice.hops) == (gateway.hops[0].session, "Success", 4)
    assert notice.duration_ms is not None and notice.duration_ms > 0
    assert transcript(handset) == (
        f"dial {CODE}\nCON {CONSENT}\n> 1\nCON {AGE}\n> 34\nCON {HEALTH}\n> 2\nEND {THANKS}\n"
    )


def test_the_computer_keyboard_alone(handset: Page, gateway: StandIn) -> None:
    handset.keyboard.type(CODE)
    handset.keyboard.press("Enter")
    expect_screen(handset, CONSENT)
    handset.keyboard.type("12")
    handset.keyboard.press("Backspace")
    handset.keyboard.press("Enter")
    expect_screen(handset, AGE)
    handset.keyboard.type("a*b #")  # whatever a person types is sent as it is
    handset.keyboard.press("Enter")
    expect_screen(handset, HEALTH)
    handset.keyboard.press("Escape")
    expect(handset.locator("#phone")).to_have_attribute("data-state", "idle")
    assert [hop.text for hop in gateway.hops] == ["", "1", "a*b #"]
    settle(gateway, 1)
    assert (gateway.notices[0].status, gateway.notices[0].hops) == ("Incomplete", 3)
    assert transcript(handset).endswith("\nhang up\n")


def test_every_control_is_reached_with_tab_and_named(handset: Page) -> None:
    handset.keyboard.type(CODE)
    names = set()
    for _ in range(30):
        handset.keyboard.press("Tab")
        focused = "() => document.activeElement.ariaLabel || document.activeElement.textContent.trim()"
        names.add(handset.evaluate(focused))
    assert names >= {"Call", "Clear", "End call", "Scroll up", "Scroll down", "Digits or letters"}
    assert names >= {*"1234567890", "star", "hash", "New number", "Copy as transcript"}
    handset.focus("[data-press=call]")
    handset.keyboard.press("Enter")  # presses the call key, and not the soft key besides
    expect_screen(handset, CONSENT)
    assert transcript(handset).count("dial") == 1


def test_clear_and_cancel_on_the_right_soft_key(handset: Page, gateway: StandIn) -> None:
    press(handset, "*38")
    handset.click("#soft-right")
    expect(handset.locator("#number")).to_have_value("*3")
    press(handset, "84*16#")
    handset.click("#soft-left")
    expect_screen(handset, CONSENT)
    press(handset, "7")
    expect(handset.locator("#right")).to_have_text("Clear")
    handset.click("#soft-right")
    expect(handset.locator("#right")).to_have_text("Cancel")
    handset.click("#soft-right")
    expect(handset.locator("#phone")).to_have_attribute("data-state", "idle")
    settle(gateway, 1)
    assert gateway.notices[0].status == "Incomplete"


def test_letters_by_several_presses(handset: Page) -> None:
    dial(handset)
    expect_screen(handset, CONSENT)
    handset.click("[data-press=letters]")
    expect(handset.locator("#typing")).to_have_text("abc")
    press(handset, "999")
    press(handset, "33")
    expect(handset.locator("#reply")).to_have_value("ye")
    handset.click("[data-press=letters]")
    press(handset, "3")
    expect(handset.locator("#reply")).to_have_value("ye3")


def test_a_dropped_connection_tells_nobody_and_a_redial_resumes(handset: Page, gateway: StandIn) -> None:
    dial(handset)
    expect_screen(handset, CONSENT)
    press(handset, "1")
    handset.click("#soft-left")
    expect_screen(handset, AGE)
    press(handset, "3")
    handset.click("#drop")
    expect_screen(handset, FAILURE)
    expect(handset.locator("#operator")).to_have_text("No service")
    handset.click("#soft-left")
    expect(handset.locator("#operator")).to_have_text("Sandbox")
    handset.click("[data-press=call]")  # brings the last number back
    expect(handset.locator("#number")).to_have_value(CODE)
    handset.click("[data-press=call]")
    expect_screen(handset, BACK_AGAIN)
    press(handset, "1")
    handset.click("#soft-left")
    expect_screen(handset, AGE)
    assert [hop.sequence for hop in gateway.hops] == [1, 2, 1, 2]
    assert gateway.hops[0].session != gateway.hops[2].session
    assert gateway.hops[0].msisdn == gateway.hops[2].msisdn
    assert gateway.notices == []
    assert "# connection dropped\n" in transcript(handset)


def test_a_reply_on_its_way_when_the_connection_drops_is_seen_by_nobody(
    handset: Page, gateway: StandIn
) -> None:
    dial(handset)
    expect_screen(handset, CONSENT)
    gateway.delay_seconds = 0.5
    press(handset, "1")
    handset.click("#soft-left")
    expect(handset.locator("#waiting")).to_have_text("USSD code running...")
    handset.click("#drop")
    expect_screen(handset, FAILURE)
    with handset.expect_event("requestfinished"):
        pass
    handset.wait_for_timeout(100)
    expect_screen(handset, FAILURE)
    assert AGE not in transcript(handset)


def test_the_last_hop_again_is_the_same_screen(handset: Page, gateway: StandIn) -> None:
    dial(handset)
    expect_screen(handset, CONSENT)
    press(handset, "1")
    handset.click("#soft-left")
    expect_screen(handset, AGE)
    handset.click("#again")
    expect_screen(handset, AGE)
    assert [(hop.sequence, hop.text) for hop in gateway.hops] == [(1, ""), (2, "1"), (2, "1")]
    assert gateway.hops[1] == gateway.hops[2]
    assert transcript(handset).endswith(f"> 1\nCON {AGE}\nagain\nCON {AGE}\n")


def test_an_extension_is_the_first_input(handset: Page, gateway: StandIn) -> None:
    dial(handset, "*384*16*1*2#")
    expect_screen(handset, CONSENT)
    assert gateway.hops[0].text == "1*2"
    assert gateway.hops[0].service_code == CODE


@pytest.mark.parametrize("keys", ["*100#", "*384*16", "0240000001", "*384*160#"])
def test_another_number_is_no_code_of_ours(handset: Page, gateway: StandIn, keys: str) -> None:
    dial(handset, keys)
    expect_screen(handset, FAILURE)
    assert gateway.hops == []


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_failing_gateway_is_a_connection_problem(browser: Browser, gateway: StandIn, status: int) -> None:
    with opened(browser, gateway.url + "/handset", failing=True) as page:
        dial(page)
        expect_screen(page, CONSENT)
        gateway.failing = status
        press(page, "1")
        page.click("#soft-left")
        expect_screen(page, FAILURE)
        settle(gateway, 1)
        assert gateway.notices[0].status == "Failed"


# ---------------------------------------------------------------- the phone's number and network


def test_the_number_is_kept_while_the_tab_is_open(browser: Browser, gateway: StandIn) -> None:
    with opened(browser, gateway.url + "/handset") as page:
        first = page.input_value("#msisdn")
        assert re.fullmatch(r"\+233 24 000 \d{4}", first)
        page.reload()
        assert page.input_value("#msisdn") == first
        page.click("#new-sim")
        page.fill("#msisdn", "+233 20 000 0016")
        page.select_option("#network", "62001")
        expect(page.locator("#operator")).to_have_text("MTN")
        dial(page)
        expect_screen(page, CONSENT)
        assert page.locator("#msisdn").is_disabled()
        assert (gateway.hops[0].msisdn, gateway.hops[0].network_code) == ("+233200000016", "62001")


def test_a_number_that_is_none_is_refused_before_dialling(handset: Page, gateway: StandIn) -> None:
    handset.fill("#msisdn", "0240000001")
    dial(handset)
    assert handset.locator("#msisdn").evaluate("input => input.validity.customError")
    assert gateway.hops == []


def test_copy_as_transcript(browser: Browser, gateway: StandIn) -> None:
    with opened(browser, gateway.url + "/handset", permissions=["clipboard-read", "clipboard-write"]) as page:
        dial(page)
        expect_screen(page, CONSENT)
        page.click("#copy")
        expect(page.locator("#note")).to_have_text("Copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        assert copied == f"dial {CODE}\nCON {CONSENT}\n"
        page.click("#clear")
        assert transcript(page) == ""


# ---------------------------------------------------------------- form


def test_what_a_screen_reader_is_told(handset: Page) -> None:
    screen = handset.locator("#screen")
    assert screen.get_attribute("aria-live") == "polite"
    dial(handset)
    expect_screen(handset, CONSENT)
    assert handset.evaluate("() => document.activeElement.id") == "reply"
    assert handset.get_by_label("Your reply").is_visible()
    assert handset.get_by_role("dialog").is_visible()


@pytest.mark.parametrize("path", ["/", "/handset"])
@pytest.mark.parametrize("width", [320, 390, 900])
def test_no_sideways_scrolling(browser: Browser, gateway: StandIn, path: str, width: int) -> None:
    with opened(browser, gateway.url + path, viewport={"width": width, "height": 640}) as page:
        assert page.evaluate("() => document.documentElement.scrollWidth") == width


def test_a_small_phone_shows_the_whole_handset_at_once(browser: Browser, gateway: StandIn) -> None:
    small: dict[str, Any] = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
    with opened(browser, gateway.url + "/handset", **small) as page:
        for key in CODE:
            page.tap(f'.keypad [data-key="{key}"]')
        page.tap("[data-press=call]")
        expect_screen(page, CONSENT)
        lowest = page.locator('[data-key="#"]').bounding_box()
        assert lowest is not None
        assert lowest["y"] + lowest["height"] <= 640
        assert page.evaluate("() => scrollY") == 0
        assert page.get_attribute("#reply", "inputmode") == "none"  # its keyboard would cover the phone


def test_a_screen_longer_than_the_phone_shows_scrolls(browser: Browser, gateway: StandIn) -> None:
    with opened(browser, gateway.url + "/handset", viewport={"width": 320, "height": 480}) as page:
        for keys, text in ((CODE, CONSENT), ("1", AGE), ("34", HEALTH)):
            page.keyboard.type(keys)
            page.keyboard.press("Enter")
            expect_screen(page, text)
        expect(page.locator("#further")).to_have_text("\u25bc")
        page.keyboard.press("ArrowDown")
        expect(page.locator("#further")).to_have_text("\u25b2")
        page.click("[data-press=up]")
        expect(page.locator("#further")).to_have_text("\u25bc")


@pytest.mark.parametrize("path", ["/", "/handset"])
def test_light_and_dark(browser: Browser, gateway: StandIn, path: str) -> None:
    contrasts = []
    for scheme in ("light", "dark"):
        with opened(browser, gateway.url + path, color_scheme=scheme) as page:
            style = page.locator("body").evaluate(
                "body => [getComputedStyle(body).color, getComputedStyle(body).backgroundColor]"
            )
            ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in style)
            contrasts.append(ink - paper)
    assert contrasts[0] < -400  # dark on light
    assert contrasts[1] > 400  # light on dark


@pytest.mark.parametrize("path", ["/", "/handset"])
def test_a_page_is_light_to_load(browser: Browser, gateway: StandIn, path: str) -> None:
    sizes: list[int] = []
    with opened(browser, gateway.url + path) as page:
        page.on("response", lambda response: sizes.append(len(response.body())))
        page.reload(wait_until="networkidle")
        assert sum(sizes) < MOST_OCTETS, sizes
        assert len(sizes) >= 3


# ---------------------------------------------------------------- home


def test_home_shows_what_runs_and_where(browser: Browser, gateway: StandIn) -> None:
    with opened(browser, gateway.url + "/") as page:
        expect(page.locator("#overall")).to_have_text("Ready: every part works.")
        expect(page.locator("#parts li")).to_have_count(2)
        assert page.locator("#parts li").first.locator(".word").text_content() == "up"
        text = page.locator("main").inner_text()
        for shown in (wave().id, wave().owner, CODE, "English", "reviewed", "/hooks/africastalking/"):
            assert shown in text
        assert "not-a-secret" not in page.content()
        assert page.get_by_role("link", name="/openapi.json").count() == 0  # webhooks are not in it
        assert "docs/partners.md" in text
        page.get_by_role("link", name="Open the handset").click()
        page.wait_for_url("**/handset")


def test_home_says_which_part_is_down_and_when_nothing_answers(browser: Browser, gateway: StandIn) -> None:
    gateway.ready = False
    with opened(browser, gateway.url + "/", failing=True) as page:
        page.clock.install()
        page.reload()
        expect(page.locator("#overall")).to_have_text("Not ready.")
        down = page.locator("#parts li[data-state=down]")
        assert [down.locator(f".{c}").text_content() for c in ("name", "word", "detail")] == [
            "database",
            "down",
            "refused the connection",
        ]
        gateway.ready = True
        page.clock.run_for(5_000)
        expect(page.locator("#overall")).to_have_text("Ready: every part works.")
        page.route("**/health/ready", lambda route: route.abort())
        page.clock.run_for(5_000)
        expect(page.locator("#overall")).to_have_text("The service does not answer.")


# ---------------------------------------------------------------- the real service


@pytest.fixture
def gateway_url(tmp_path: Path) -> Iterator[str]:
    """`main.py run` in a folder of its own: embedded stores, gateway, recorder, worker."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DIAL16_")}
    environ |= {"DIAL16_DATA_DIR": str(tmp_path / "data"), "DIAL16_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert service.poll() is None, (tmp_path / "log").read_text()
        try:
            with urllib.request.urlopen(url + "/health/ready", timeout=2):
                return True
        except OSError:
            return False

    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "run"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        try:
            wait_until(ready, "the service", 60)
        except TimeoutError:
            pytest.fail((tmp_path / "log").read_text())
        yield url
    finally:
        service.terminate()
        service.wait(30)


def test_the_real_service_from_a_dial_through_a_drop_to_the_same_question(
    browser: Browser, gateway_url: str
) -> None:
    with opened(browser, gateway_url + "/handset", viewport={"width": 900, "height": 790}) as page:

        def reply(keys: str) -> str:
            before = transcript(page)
            press(page, keys)
            page.click("#soft-left")
            expect(page.locator("#log")).not_to_have_text(f"{before}> {keys}\n", use_inner_text=False)
            expect(page.locator("#phone")).to_have_attribute("data-state", "open")
            return page.locator("#screen").inner_text()

        dial(page, wave().code)
        expect(page.locator("#screen")).to_contain_text(wave().owner)
        assert "18" in reply("1")
        for keys in ("1", "2", "34"):  # of age, sex, age in years
            question = reply(keys)
        page.click("#again")
        expect_screen(page, question)
        page.click("#drop")
        page.click("#soft-left")
        dial(page, wave().code)
        expect(page.locator("#screen")).to_contain_text("Welcome back")
        assert reply("1") == question
        size, most = re.findall(r"\d+", page.locator("#count").inner_text())
        assert 0 < int(size) <= int(most)
        if folder := os.environ.get("SHOTS"):
            while "Strongly agree" not in reply("1"):  # on to a question about a service
                pass
            press(page, "2")
            page.screenshot(path=Path(folder) / "handset.png")
        page.click("[data-press=end]")
        assert transcript(page).endswith("\nhang up\n")
    with opened(browser, gateway_url + "/", viewport={"width": 900, "height": 740}) as page:
        expect(page.locator("#overall")).to_have_text("Ready: every part works.")
        if folder:
            page.screenshot(path=Path(folder) / "home.png", full_page=True)


def test_the_real_service_by_text_and_over_to_ussd(browser: Browser, gateway_url: str) -> None:
    """A worker answers; the page reports the delivery; the same interview goes on by dialling."""
    with opened(browser, gateway_url + "/handset", viewport={"width": 900, "height": 1000}) as page:
        answers = page.locator("#thread .theirs")

        def text(words: str) -> str:
            before = answers.count()
            page.fill("#words", words)
            page.click("#texting button")
            expect(answers).to_have_count(before + 1, timeout=20_000)
            return answers.last.inner_text()

        assert wave().owner in text("survey")
        assert "18" in text("Yes.")
        question = [text(words) for words in ("yes", "femal")][-1]
        assert "old are you" in question
        assert text("1 2").startswith("One answer a message")
        if folder := os.environ.get("SHOTS"):
            page.screenshot(path=Path(folder) / "texts.png")
        dial(page, wave().code)
        expect(page.locator("#screen")).to_contain_text("Welcome back")
        press(page, "1")
        page.click("#soft-left")
        expect(page.locator("#screen")).to_contain_text("old are you")
        page.click("[data-press=end]")
        page.click("#new-sim")  # another phone: none of these messages is its own
        expect(page.locator("#thread li")).to_have_count(0)


# ---------------------------------------------------------------- routes, without a browser


def paths(routes: list[BaseRoute]) -> list[str]:
    return [route.path for route in routes if isinstance(route, Route | Mount)]


def test_without_the_simulator_there_is_no_handset(gateway: StandIn) -> None:
    from starlette.testclient import TestClient

    routes = page_routes(waves=[wave()], simulator_hook=None, hook_hint="/hooks/x/<secret>/ussd")
    assert "/handset" not in paths(routes)
    client = TestClient(Starlette(routes=routes))
    assert client.get("/handset").status_code == 404
    home = client.get("/")
    assert "handset" not in home.text.lower()
    assert "/hooks/x/&lt;secret&gt;/ussd" in home.text


def test_headers_and_caching(gateway: StandIn) -> None:
    from starlette.testclient import TestClient

    client = TestClient(gateway.app())
    for path in ("/", "/handset"):
        page = client.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|https?://", page.text)
        for file in re.findall(r'"(/static/[^"]+)"', page.text):
            kept = client.get(file)
            assert kept.status_code == 200
            assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert client.get(file.partition("?")[0]).headers["cache-control"] == "no-cache"
    assert HOOK in client.get("/handset").text
    assert client.get("/static/../__init__.py").status_code == 404
