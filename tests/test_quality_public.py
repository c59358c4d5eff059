"""What of a quality report may leave, its page, its files, its verb."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser
from sqlalchemy import Engine

from storage.analysis.flags import FLAGS, Thresholds
from storage.analysis.labels import labels_of
from storage.analysis.margins import load_margins
from storage.analysis.publishing import publish, verify
from storage.analysis.quality import Report
from storage.analysis.quality_files import earlier_reports, public_files, staff_files, write_files
from storage.analysis.quality_page import WORDS, page
from storage.analysis.quality_parts import Rate, Rates, as_json
from storage.analysis.quality_rules import hide, public
from storage.analysis.release import Rules, load_release
from storage.database import open_engine
from tests.quality_material import (
    DAY,
    HERE,
    INSTRUMENT,
    margins,
    rating,
    report,
    tell,
    wave_like,
)
from tests.quality_material import record as record
from tests.stores import give_schema
from tests.test_pages import browser as browser
from tests.test_pages import opened
from tests.test_releases import about

# ---------------------------------------------------------------- what may leave


@pytest.mark.parametrize(
    ("counts_", "hidden"),
    [
        ([0, 0, 50], []),
        ([3, 0, 50], [0, 2]),  # one alone follows from the total
        ([3, 12, 50], [0, 1]),
        ([4, 4, 50, 60], [0, 1, 2]),  # eight people are still few
        ([4, 6, 50], [0, 1]),
        ([9], [0]),
        ([10, 10], []),
    ],
)
def test_small_parts_of_a_whole(counts_: list[int], hidden: list[int]) -> None:
    assert [k for k, h in enumerate(hide(counts_, 10)) if h] == hidden


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(3, 15))
def test_no_hidden_part_follows_from_the_whole(counts_: list[int], least: int) -> None:
    hidden = hide(counts_, least)
    out = [n for n, h in zip(counts_, hidden, strict=True) if h]
    shown = [n for n, h in zip(counts_, hidden, strict=True) if not h]
    assert not [n for n in shown if 0 < n < least]
    assert not out or (len(out) > 1 and sum(out) >= least) or not any(shown)


@pytest.fixture(scope="module")
def wave() -> Iterator[Report]:
    """A made-up wave of some 1,200 interviews, raked to sex."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/w.sqlite3")
        give_schema(engine, INSTRUMENT)
        wave_like(engine, INSTRUMENT)
        yield report(engine, margins=margins(Path(folder), female=9_000_000, male=8_900_000))
        engine.dispose()


def numbers(data: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number in a JSON text, with its key."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from numbers(value, name)
    elif isinstance(data, list):
        for value in data:
            yield from numbers(value, key)
    elif isinstance(data, int) and not isinstance(data, bool):
        yield key, data


def test_the_public_report_has_no_small_cell_and_nobodys_name(wave: Report) -> None:
    files = public_files(wave.quality, INSTRUMENT, Rules())
    assert sorted(files) == ["quality.fr.html", "quality.html", "quality.json"]
    data = json.loads(files["quality.json"])
    assert data["public"] is True
    cells = dict(data, thresholds={}, rules={}, format=0, weights=[])
    found = list(numbers(cells))
    assert len(found) > 300
    assert [(k, n) for k, n in found if n % 5 or 0 < n < 10] == []
    assert data["doubtful"]["n"] > 10 and data["figures"]  # not empty because all is hidden
    assert {w["most"] for w in data["weights"]} == {None}
    for text in files.values():
        assert not re.search(r"(?<![0-9a-f.])[0-9a-f]{16}", text)
    staff = staff_files(wave, INSTRUMENT)
    assert sorted(staff) == [
        "interview_flag.csv", "quality_staff.fr.html", "quality_staff.html", "quality_staff.json"
    ]  # fmt: skip
    for name in ("quality_staff.html", "quality_staff.json"):
        assert not re.search(r"(?<![0-9a-f.])[0-9a-f]{16}", staff[name])
    assert len(staff["interview_flag.csv"].splitlines()) > 50


@pytest.mark.parametrize(("small", "hidden"), [(40, False), (3, True)])
def test_no_rate_gives_a_hidden_group_back(wave: Report, small: int, hidden: bool) -> None:
    """e is (I + P + R + NC) over these and X: with it and the others, X would be known."""
    counts_ = {"I": 800, "P": 60, "R": 90, "NC": 200, "O": small, "U": 0, "X": 50}
    rates = Rates(counts_, 0.958, (Rate("RR1", "I / all", "least", 0.69),))
    files = public_files(replace(wave.quality, rates=rates), INSTRUMENT, Rules())
    told = json.loads(files["quality.json"])["rates"]
    assert (told["counts"]["O"] is None, told["e"] is None, told["rates"][0]["value"] is None) == (
        hidden,
    ) * 3
    assert ("95.8" in files["quality.html"]) != hidden


def test_a_hidden_place_stays_hidden(wave: Report) -> None:
    """What a release hides nationally is not shown by the quality report."""
    [pair] = [p for p in wave.quality.figures if (p.every.service, p.every.measure) == ("health", "overall")]
    before = [(pair.every.wave, "health", "overall", ())]
    shown = {(p.every.service, p.every.measure): p for p in public(wave.quality, Rules(), before).figures}
    assert shown["health", "overall"].every.mark == shown["health", "overall"].rest.mark == "c"
    assert shown["primary", "overall"].every.mark == ""


def test_two_reports_cannot_be_subtracted(wave: Report, tmp_path: Path) -> None:
    """The same figure out already, without a few people fewer: neither column is shown again."""
    estimates = [p.every for p in wave.quality.figures]
    first = public_files(wave.quality, INSTRUMENT, Rules())
    publish(estimates, tmp_path, about(), labels_of(INSTRUMENT), issued=DAY, beside=first)
    out = earlier_reports(tmp_path, "w")
    assert out == [json.loads(first["quality.json"])]
    assert public(wave.quality, Rules(), (), out) == public(
        wave.quality, Rules()
    )  # the same again tells nothing
    for fewer, hidden in ((5, True), (20, False)):
        moved = [
            replace(p, rest=replace(p.rest, n=p.rest.n - fewer, positive=p.rest.positive - fewer // 2))
            for p in wave.quality.figures
        ]
        shown = public(replace(wave.quality, figures=tuple(moved)), Rules(), (), out).figures
        assert {p.every.mark == p.rest.mark == "c" for p in shown} == {hidden}


def test_every_key_is_explained(wave: Report) -> None:
    text = (HERE / "docs" / "quality.md").read_text("utf-8")

    def keys(data: Any) -> Iterator[str]:
        if isinstance(data, dict):
            for name, value in data.items():
                yield name
                yield from keys(value)
        elif isinstance(data, list):
            for value in data:
                yield from keys(value)

    told = set(re.findall(r"`([A-Za-z0-9_.]+)`", text))
    assert set(keys(json.loads(as_json(wave.quality)))) - told == set()
    assert set(FLAGS) - told == set()
    for name in ("fast_part", "fast_seconds", "fast_answers", "straight_services", "same_ratings"):
        default = getattr(Thresholds(), name)
        assert re.search(rf"`{name}` \| {default:g} \|", text), f"{name}: docs say otherwise than {default:g}"


# ---------------------------------------------------------------- the page


class Tags(HTMLParser):
    """What is open, what refers elsewhere, and the text."""

    EMPTY = frozenset({"meta", "rect", "line", "circle"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.rows = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given_ = dict(attrs)
        self.ids |= {given_["id"] or ""} if "id" in given_ else set()
        self.links += [
            value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")
        ]
        self.rows += tag == "tr"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.EMPTY

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_page_stands_alone(wave: Report, language: str) -> None:
    for q in (wave.quality, public(wave.quality, Rules())):
        text = page(q, INSTRUMENT, language)
        tags = Tags(text)
        assert tags.open == []
        assert tags.rows > 150
        assert "://" not in text and "url(" not in text and "<script" not in text and "@import" not in text
        inside = {link[1:] for link in tags.links if link.startswith("#")}
        assert inside <= tags.ids and len(inside) == 11
        assert {link for link in tags.links if not link.startswith("#")} == {
            "quality.fr.html" if language == "en" else "quality.html"
        }
        assert "None" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)
    assert ("Doubtful interviews" in text) == (language == "en")


def test_what_an_office_writes_is_escaped(record: Engine, tmp_path: Path) -> None:
    tell(
        record,
        INSTRUMENT,
        [{**rating("AABBA"), "respondent.sex": s} for s in ("female", "male")],
        network="<b>",
    )
    path = tmp_path / "m.csv"
    head = "table,source,date,variables,category,total,joins\n"
    rows = [f"sex,<script>1</script>,2021-06-27,sex,{s},5,\n" for s in ("female", "male")]
    path.write_text(head + "".join(rows), "utf-8")
    text = page(report(record, margins=load_margins(path, INSTRUMENT)).quality, INSTRUMENT)
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;b&gt;" in text


def test_both_languages_have_all_words() -> None:
    assert WORDS["en"].keys() == WORDS["fr"].keys()
    for key, words in WORDS["en"].items():
        assert re.findall(r"\{\w+\}", words) == re.findall(r"\{\w+\}", WORDS["fr"][key]), key


def test_a_wave_of_nobody_is_a_page_too(record: Engine) -> None:
    made = report(record)
    for language in WORDS:
        for q in (made.quality, public(made.quality, Rules())):
            assert Tags(page(q, INSTRUMENT, language)).open == []
    assert (made.quality.interviews, made.quality.completion.share) == (0, None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(
    wave: Report, browser: Browser, tmp_path: Path, width: int, scheme: Any
) -> None:
    files = public_files(wave.quality, INSTRUMENT, Rules())
    write_files(files, tmp_path)
    for name in ("quality.html", "quality.fr.html"):
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        with opened(browser, f"file://{tmp_path / name}", **options) as shown:
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            bars = shown.locator("#missing svg .refused").count()
            assert bars > 5
            background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (int(re.findall(r"\d+", background)[0]) < 128) == (scheme == "dark")
            if shots := os.environ.get("SHOTS"):
                shown.screenshot(path=f"{shots}/{name}-{width}-{scheme}.png", full_page=True)


# ---------------------------------------------------------------- into a release, and by the verb


def test_in_a_releases_folder(wave: Report, tmp_path: Path) -> None:
    estimates = [p.every for p in wave.quality.figures]
    files = public_files(wave.quality, INSTRUMENT, Rules())
    folder = publish(estimates, tmp_path, about(), labels_of(INSTRUMENT), issued=DAY, beside=files)
    assert verify(folder) == []
    for name, text in files.items():
        assert (folder / name).read_text("utf-8") == text
        assert f"  {name}\n" in (folder / "SHA256SUMS").read_text("utf-8")
    catalogue = json.loads((folder / "dcat.jsonld").read_text("utf-8"))
    types = {d["dct:title"]: d["dcat:mediaType"] for d in catalogue["dcat:distribution"]}
    assert (types["quality.html"], types["quality.json"]) == ("text/html", "application/json")
    # What the report says of the figures is what the release says of them.
    released = {(e.service, e.measure): e for e in load_release(folder).estimates}
    for told in json.loads(files["quality.json"])["figures"]:
        e = released[told["service"], told["measure"]]
        if told["with_doubtful"]["mark"] not in ("c", "u"):
            assert told["with_doubtful"] == {
                "n": e.n, "share": e.share, "low": e.low, "high": e.high, "mark": e.mark
            }  # fmt: skip


def verb(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "main.py", "quality", *arguments],
        cwd=HERE, capture_output=True, text=True, timeout=120,
        env={"PATH": "", "DIAL16_DATABASE_URL": url, "DIAL16_DATA_DIR": str(folder), "COLUMNS": "100"},
    )  # fmt: skip


def test_the_verb(record: Engine, tmp_path: Path) -> None:
    database_url = str(record.url)
    tell(record, INSTRUMENT, [rating("AABBA", "ABABB")] * 3)
    tell(record, INSTRUMENT, [rating("AABBA", "ABABB")] * 2, first=3, aggregator="simulator")
    told = verb(database_url, tmp_path, "--wave", "w")
    assert "Left out: 2 interviews made up with the simulator" in told.stdout
    assert (told.returncode, told.stderr) == (0, "")
    assert re.search(r"completed\W+3\W+3\W+100\.0%", told.stdout)
    assert re.search(r"flag: same_answers\W+3\W+3\W+100\.0%", told.stdout)
    shown = verb(database_url, tmp_path, "--wave", "w", "--simulated")
    assert "Demonstration: 2 of 5 interviews were made up" in shown.stdout
    out = tmp_path / "out"
    assert verb(database_url, tmp_path, "--wave", "w", "--out", str(out)).returncode == 0
    assert sorted(f.name for f in out.iterdir()) == ["quality.fr.html", "quality.html", "quality.json"]
    assert verb(database_url, tmp_path, "--wave", "w", "--out", str(out), "--staff").returncode == 0
    assert (out / "interview_flag.csv").read_text("utf-8").count("\n") == 4
    refused = verb(database_url, tmp_path, "--wave", "w", "--staff")
    assert refused.returncode == 2 and "--out" in refused.stderr
    nobody = verb(database_url, tmp_path, "--wave", "none")
    assert nobody.returncode == 1 and "Wave none has no interviews" in nobody.stderr
