"""The fieldwork page in a real browser: on a phone, by keyboard, by itself, and without scripts.

With SHOTS=docs it takes pictures of the page at the widths of a desk and of a phone.
"""

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine
from starlette.applications import Starlette

from flows.instrument import load
from flows.wave import load_wave
from gateway import fieldwork as page_module
from gateway.fieldwork import Figures, fieldwork_routes
from gateway.pages import page_routes
from storage.database import open_engine
from tests.fieldwork_material import QUOTAS, fill
from tests.stores import give_schema, wait_until
from tests.test_dispositions import Person, write
from tests.test_pages import browser, opened

__all__ = ["browser"]

HERE = Path(__file__).resolve().parent.parent
WAVE = replace(load_wave(HERE / "deploy" / "wave.toml", load(HERE / "flows" / "sdg_16_6_2")), quotas=QUOTAS)
TOKEN = "a token for tests, 0123456789abcdef"
PHONE, DESK = {"width": 360, "height": 760}, {"width": 1200, "height": 900}


@contextmanager
def serving(engine: Engine, port: int = 0) -> Iterator[str]:
    """The page over this database, at the address given."""
    figures = Figures([WAVE], engine.url.render_as_string(hide_password=False))
    routes = page_routes(waves=[WAVE], simulator_hook=None, hook_hint="-")
    app = Starlette(routes=[*routes, *fieldwork_routes(figures, TOKEN)])
    listening = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        wait_until(lambda: server.started, "the page", 10)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        figures.close()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A wave in its second week; figures are counted at every look."""
    monkeypatch.setattr(page_module, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(page_module, "_FRESH_TIMES", 0.0)
    engine = open_engine(f"sqlite:///{tmp_path / 'dial16.sqlite3'}")
    give_schema(engine, WAVE.instrument)
    fill(engine, WAVE.id, WAVE.instrument, datetime(2026, 11, 23, 16, tzinfo=UTC))
    yield engine
    engine.dispose()


@pytest.fixture
def url(engine: Engine) -> Iterator[str]:
    with serving(engine) as url:
        yield url + "/fieldwork"


def sign_in(page: Page) -> None:
    """By keyboard alone: the field has the focus."""
    expect(page.get_by_label("Staff token")).to_be_focused()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Response and cooperation")).to_be_visible()


def begun(page: Page) -> int:
    return int(page.locator(".tiles dd").first.inner_text().replace(",", ""))


@pytest.mark.parametrize("width", ["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_every_part_has_a_name(browser: Browser, url: str, width: str, scheme: str) -> None:
    size = {"desk": DESK, "phone": PHONE}[width]
    with opened(browser, url, viewport=size, color_scheme=scheme) as page:
        expect(page.get_by_label("Staff token")).to_be_focused()
        sign_in(page)
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
        # Every bar is as wide as its number says, and is there at all.
        gauge = page.locator("table.rates .gauge rect").first
        if width == "desk":
            assert gauge.evaluate("e => e.getBoundingClientRect().width") > 10
        for strip in page.locator(".scroll .stack").all():
            box = strip.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
            assert box["width"] > size["width"] / 2
        tables = page.get_by_role("table")
        assert tables.count() >= 8
        for section in page.locator("main section").all():
            heading = section.get_attribute("aria-labelledby")
            assert page.locator(f"#{heading}").inner_text().strip()
        assert page.locator("svg:not([aria-hidden=true])").count() == 0  # each has its table
        assert page.locator("td:empty:not([aria-hidden])").count() == 0
        if (folder := os.environ.get("SHOTS")) and scheme == "light":
            page.screenshot(path=Path(folder) / f"fieldwork-{width}.png", full_page=width == "phone")


def test_everything_is_reached_with_tab(browser: Browser, url: str) -> None:
    with opened(browser, url, viewport=PHONE) as page:
        sign_in(page)
        names = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            names.add(
                page.evaluate(
                    "() => { const e = document.activeElement, by = e.getAttribute('aria-labelledby');"
                    " return (by ? document.getElementById(by) : e).textContent.trim() }"
                )
            )
        assert names >= {"Skip to the figures", "Reload", "Pause updates", "Sign out", "The days as a table",
                         "By region", "Messages and cost", "Where interviews stop"}  # fmt: skip
        page.get_by_role("button", name="Sign out").press("Enter")
        expect(page.get_by_label("Staff token")).to_be_focused()


def test_the_figures_follow_by_themselves_and_can_be_paused(
    browser: Browser, engine: Engine, url: str
) -> None:
    with opened(browser, url, viewport=DESK) as page:
        page.clock.install()
        sign_in(page)
        before = begun(page)
        page.get_by_text("The days as a table").click()
        write(engine, [Person("complete", sample=False, wave=WAVE.id)], first=90_001)
        page.clock.fast_forward(31_000)
        expect(page.locator(".tiles dd").first).to_have_text(str(before + 1))
        expect(page.locator("#days-table")).to_have_attribute("open", "")  # as the reader left it

        pause = page.get_by_role("button", name="Pause updates")
        pause.click()
        expect(pause).to_have_attribute("aria-pressed", "true")
        write(engine, [Person("complete", sample=False, wave=WAVE.id)], first=90_002)
        page.clock.fast_forward(120_000)
        assert begun(page) == before + 1
        page.get_by_role("link", name="Reload").click()
        expect(page.locator(".tiles dd").first).to_have_text(str(before + 2))


def test_a_service_that_goes_and_comes_back_is_told(browser: Browser, engine: Engine) -> None:
    with ExitStack() as stack:
        with serving(engine) as address:
            port = int(address.rsplit(":", 1)[1])
            page = stack.enter_context(opened(browser, address + "/fieldwork", failing=True, viewport=DESK))
            page.clock.install()
            sign_in(page)
            count = begun(page)
        page.clock.fast_forward(31_000)
        expect(page.get_by_role("status")).to_have_text("The service does not answer. Trying again.")
        assert begun(page) == count  # what was known stays
        with serving(engine, port):
            page.clock.fast_forward(31_000)
            expect(page.get_by_role("status")).to_have_text("")
            page.context.clear_cookies()  # the twelve hours are over
            page.clock.fast_forward(31_000)
            page.wait_for_url(re.compile("/sign-in$"))


def test_without_scripts_there_is_the_link(browser: Browser, engine: Engine, url: str) -> None:
    with opened(browser, url, viewport=PHONE, java_script_enabled=False) as page:
        page.get_by_label("Staff token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        before = begun(page)
        expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()
        write(engine, [Person("complete", sample=False, wave=WAVE.id)], first=90_001)
        page.get_by_role("link", name="Reload").click()
        expect(page.locator(".tiles dd").first).to_have_text(str(before + 1))


def test_a_wrong_token_is_said_where_it_was_typed(browser: Browser, url: str) -> None:
    with opened(browser, url, failing=True) as page:
        page.keyboard.type("not the token")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That is not the staff token.")
        expect(page.get_by_label("Staff token")).to_have_attribute("aria-describedby", "said")
        expect(page.get_by_label("Staff token")).to_have_value("")
        sign_in(page)
