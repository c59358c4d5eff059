"""The public results pages: charts read back as numbers, HTTP, and a real browser on real releases.

SHOTS=docs takes the pictures of docs/results.md.
"""

import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from flows.fielding import Sharing
from gateway.pages import charts
from gateway.pages.boundaries import MapError, load_boundaries
from gateway.pages.words import LANGUAGES, language_of, words_of
from gateway.published import Published
from gateway.results import ResultsPages, results_routes
from gateway.results_page import regions_of
from storage.analysis.estimates import Domain, Estimate, blanked
from storage.analysis.exports.dcat import CONTEXT
from storage.analysis.labels import labels_of
from storage.analysis.release import FILE, Release, as_json, load_release, percent
from tests.results_material import ROOT, instrument, publish_again, publish_waves
from tests.test_pages import MOST_OCTETS, browser, opened
from tests.wave_material import more_waves

__all__ = ["browser"]  # a fixture

SVG = "{http://www.w3.org/2000/svg}"
ASHANTI: Domain = (("region", "gh_ah"),)
SERVICES = ("health", "primary", "secondary", "government")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two waves, the second in two versions."""
    made = tmp_path_factory.mktemp("results")
    publish_waves(made)
    publish_again(made, "pilot-2026")
    return made


@pytest.fixture(scope="module")
def six(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six waves; in 2022 Ashanti is hidden, and in 2024 it is shown to be reviewed."""
    made, release = tmp_path_factory.mktemp("six"), released(folder)
    more_waves(release, made / "releases", (2016, 2018, 2020, 2022, 2024, 2026))
    for period, mark in (("2022", "c"), ("2024", "*")):
        at = made / "releases" / f"pilot-{period}" / "1"
        changed = load_release(at)
        marked = (
            (blanked(e, mark) if mark == "c" else replace(e, mark=mark)) if e.domain == ASHANTI else e
            for e in changed.estimates
        )
        (at / FILE).write_text(as_json(replace(changed, estimates=tuple(marked))), "utf-8")
    return made


def application(folder: Path, **options: Any) -> Starlette:
    from gateway.pages import page_routes
    from tests.stand_in import wave

    static = [
        route
        for route in page_routes(waves=[wave()], simulator_hook=None, hook_hint="-")
        if isinstance(route, Mount)
    ]
    pages = ResultsPages(Published(folder / "releases"), instrument(), **options)
    return Starlette(routes=[*results_routes(pages), *static])


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    socket = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        socket.close()


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(application(folder)) as address:
        yield address


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    return TestClient(application(folder, address="https://results.example.org"))


def released(folder: Path, wave: str = "pilot-2026", version: int = 2) -> Release:
    return load_release(folder / "releases" / wave / str(version))


def one_way(release: Release, service: str, variable: str, measure: str = "overall") -> list[Estimate]:
    return [
        e
        for e in release.estimates
        if (e.service, e.measure) == (service, measure) and [v for v, _ in e.domain] == [variable]
    ]


# ---------------------------------------------------------------- charts, read back out of the page


def svg_of(page: str, id: str) -> ET.Element:
    """The drawing whose title has this id."""
    start = page.rindex("<svg ", 0, page.index(f'aria-labelledby="{id}-t'))
    depth, end = 0, start
    for tag in re.finditer(r"<svg |</svg>", page[start:]):
        depth += 1 if tag[0] == "<svg " else -1
        if not depth:
            end = start + tag.end()
            break
    return ET.fromstring(page[start:end].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def rows_of(drawing: ET.Element) -> list[tuple[str, float, float, float]]:
    """Label, share, low and high of each row, off the places of its marks."""
    names = ["".join(t.itertext()).strip() for t in drawing.iter(f"{SVG}text") if t.get("class") == "name"]
    plot = next(s for s in drawing.iter(f"{SVG}svg") if s.get("class") == "plot")
    ranges = [x for x in plot if x.get("class") == "range"]
    shares = [
        x.get("cx") or x.get("width") for x in plot if (x.get("class") or "").startswith(("dot", "bar"))
    ]
    assert len(names) == len(shares) == len(ranges)

    def number(text: str | None) -> float:
        return float(str(text).rstrip("%"))

    return [
        (name, number(share), number(line.get("x1")), number(line.get("x2")))
        for name, share, line in zip(names, shares, ranges, strict=True)
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_charts_draw_the_released_figures(folder: Path, client: TestClient, service: str) -> None:
    release = released(folder)
    page = client.get(f"/results?service={service}").text
    for variable in ("region", "sex", "age", "residence", "disability"):
        figures = one_way(release, service, variable)
        shown = [e for e in figures if e.mark not in ("c", "u")]
        assert figures
        if not shown:
            continue
        drawn = rows_of(svg_of(page, variable))
        expected = [tuple(float(percent(v)) for v in (e.share, e.low, e.high)) for e in shown]
        assert sorted(row[1:] for row in drawn) == sorted(expected)
        if variable in ("region", "sex", "residence"):
            assert [row[1] for row in drawn] == sorted((row[1] for row in drawn), reverse=True)


@pytest.mark.parametrize("service", SERVICES)
def test_bars_are_the_released_answers(folder: Path, client: TestClient, service: str) -> None:
    """Each answer that is shown has a segment of its length, and a cell in the table."""
    answers = [a for a in released(folder).answers if a.figure.service == service]
    page = client.get(f"/results?service={service}").text
    drawing = svg_of(page, "attributes")
    ticks = [
        float(str(t.get("x")).rstrip("%")) for t in drawing.iter(f"{SVG}text") if t.get("class") == "tick"
    ]
    span = 25 * (len(ticks) - 1)
    drawn = [
        (group.get("class"), round(float(str(group[0].get("width")).rstrip("%")) * span / 100, 1))
        for group in drawing.iter(f"{SVG}g")
    ]
    assert len(answers) == 24 and len(drawn) == len([a for a in answers if a.figure.mark not in ("c", "u")])
    expected = sorted((f"d{a.code}", round(float(percent(a.figure.share)), 1)) for a in answers)
    for (code, length), (code_drawn, length_drawn) in zip(expected, sorted(drawn), strict=True):
        assert code == code_drawn and abs(length - length_drawn) <= 0.1
    table = page[page.index('<table class="answers">') :].split("</table>")[0]
    cells = re.findall(r'<td class="n">([\d.]+)</td>', table)
    assert sorted(map(float, cells)) == sorted(float(percent(a.figure.share)) for a in answers)
    assert "Strongly disagree / Very dissatisfied" in page


def test_a_release_without_answers_has_bars_of_the_positive_ones(folder: Path, tmp_path: Path) -> None:
    """As one made before releases had answers; it loads, and its page says what it lacks."""
    old = json.loads((folder / "releases/pilot-2026/2" / FILE).read_text())
    del old["answers"], old["design_weighted"]
    at = tmp_path / "releases/pilot-2026/2"
    at.mkdir(parents=True)
    (at / FILE).write_text(json.dumps(old))
    page = TestClient(application(tmp_path)).get("/results").text
    figures = [e for e in released(folder).estimates if e.service == "health" and not e.domain]
    drawn = rows_of(svg_of(page, "attributes"))
    assert sorted(row[1] for row in drawn) == sorted(
        float(percent(e.share)) for e in figures if e.measure not in ("overall", "attributes")
    )
    assert "four single answers are not part of the release" in page
    assert "answers.csv" not in page
    assert "?service=health&amp;by=" not in page  # one wave makes no trend


def test_options_of_one_code_share_a_cell_and_hidden_ones_are_said(folder: Path, tmp_path: Path) -> None:
    """ "Very satisfied" in two wordings; the two negative answers are hidden."""
    release = released(folder)
    answers, whole = [], 0.0
    for a in release.answers:
        if (a.figure.service, a.figure.measure) != ("health", "overall"):
            answers.append(a)
        elif a.code < 2:
            answers.append(replace(a, figure=blanked(a.figure, "c")))
        elif a.code == 2:
            answers.append(a)
        else:
            whole = round((a.figure.share or 0) + 0.1, 3)
            answers += [a, replace(a, option="delighted", figure=replace(a.figure, share=0.1))]
    at = tmp_path / "releases/pilot-2026/2"
    at.mkdir(parents=True)
    (at / FILE).write_text(as_json(replace(release, answers=tuple(answers))))
    page = TestClient(application(tmp_path)).get("/results").text
    table = page[page.index('<table class="answers">') :].split("</table>")[0]
    row = next(r for r in table.split("<tr") if "atisf" in r.partition("</th>")[0])
    cells = re.findall(r'<td class="n">(.*?)</td>', row)
    assert cells[:2] == ['–<span class="unseen">Not shown</span>'] * 2
    assert cells[3] == f"{100 * whole:.1f}"


def test_old_waves_leave_the_page_and_unraked_ones_carry_a_star(folder: Path, tmp_path: Path) -> None:
    """Sixteen waves: one a demonstration, one on another questionnaire, one weighted by the draw alone."""
    out, periods = tmp_path / "releases", tuple(range(2011, 2027))
    more_waves(released(folder), out, periods)
    for period, changed in (
        (2025, {"weighted": False, "design_weighted": True}),
        (2024, {"simulated": 5}),
        (2023, {"instrument": "other@1"}),
    ):
        at = out / f"pilot-{period}/1" / FILE
        at.write_text(as_json(replace(load_release(at.parent), **changed)))
    client = TestClient(application(tmp_path))
    page = client.get("/results?by=region").text
    heads = re.findall(r'<th scope="col">(20\d\d\*?)</th>', page)
    assert heads == [*map(str, range(2015, 2023)), "2025*", "2026"]
    assert "the 10 newest waves" in page and "marked * are not weighted to the population" in page
    versions = page[page.index('<ul class="versions">') :].split("</ul>")[0]
    assert versions.count("<li>") == 6 and "/open-data?lang=en#versions" in page
    assert "pilot-2013/1" in client.get("/results/pilot-2013/1").text
    assert client.get("/open-data").text.count("First version.") == 16
    style = (ROOT / "gateway/pages/static/results.css").stat().st_size
    for address in ("/results?by=region&lang=fr", "/results?lang=fr"):
        assert len(client.get(address).content) + style < MOST_OCTETS


@pytest.fixture(scope="module")
def over_time(six: Path) -> TestClient:
    return TestClient(application(six))


def test_a_trend_by_group_is_the_releases_own_figures(six: Path, over_time: TestClient) -> None:
    """Category by wave; what is hidden is in no cell and breaks the line."""
    page = over_time.get("/results?service=primary&by=region").text
    table = page[page.index('<table class="waves">') :].split("</table>")[0]
    rows = dict(re.findall(r'<th scope="row">([^<]+)</th>(.*?)</tr>', table))
    periods = (2016, 2018, 2020, 2022, 2024, 2026)
    waves = [released(six, f"pilot-{period}", 1) for period in periods]
    regions = labels_of(instrument()).options["region"]
    assert set(rows) == {*regions.values(), "National"}
    for region, name in regions.items():
        expected = []
        for release in waves:
            (e,) = (e for e in one_way(release, "primary", "region") if e.domain[0][1] == region)
            hidden = e.mark in ("c", "u")
            expected.append("" if hidden else charts.written(e, e.share))
        cells = re.findall(
            r"<td>(?:([\d.]+)<small>[\d.–]+</small>|–<span [^>]*>Not shown</span>)</td>", rows[name]
        )
        assert cells == expected, name
    panel = re.search(r"<b>Ashanti</b>.*", page)
    assert panel is not None
    assert re.findall(r'class="course" d="(.*?)"', panel[0])[0].count("M") == 2  # broken at 2022
    assert panel[0].count("h0") == 5
    assert page.count('<use href="#ground"/>') == 16
    expected_links = ["region", "sex", "age", "residence", "disability"]
    assert re.findall(r"by=(\w+)&amp;lang=en#groups", page) == expected_links


def test_an_unknown_breakdown_falls_back(over_time: TestClient) -> None:
    plain = over_time.get("/results?service=primary").text
    for by in ("nonsense", "wealth", "%00", "x" * 5000):  # the releases have no wealth
        assert over_time.get(f"/results?service=primary&by={by}").text == plain


@pytest.mark.parametrize("code", LANGUAGES)
def test_six_waves_stay_small_at_any_choice(over_time: TestClient, code: str) -> None:
    style = (ROOT / "gateway/pages/static/results.css").stat().st_size
    for by in ("", "region", "age", "sex"):
        page = over_time.get(f"/results?service=primary&by={by}&lang={code}")
        assert len(page.content) + style < MOST_OCTETS, by
        assert page.headers["content-encoding"] == "gzip"
        assert int(page.headers["content-length"]) < 15_000, by


@pytest.mark.parametrize(
    ("accepts", "squeezed"),
    [("gzip, br", True), ("br;q=1, GZIP;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.0, br", False),
     ("identity", False), ("", False), ("xgzipx", False)],
)  # fmt: skip
def test_pages_are_compressed_for_who_takes_it(client: TestClient, accepts: str, squeezed: bool) -> None:
    with client.stream("GET", "/results", headers={"Accept-Encoding": accepts}) as answer:
        raw = b"".join(answer.iter_raw())
        assert (answer.headers.get("content-encoding") == "gzip") is squeezed
        assert answer.headers["vary"] == "Accept-Language, Accept-Encoding"
    assert (gzip.decompress(raw) if squeezed else raw).decode() == client.get("/results").text


def test_the_map_has_every_region_and_hides_what_is_hidden(folder: Path, client: TestClient) -> None:
    figures = {e.domain[0][1]: e for e in one_way(released(folder), "health", "region")}
    tiles = {}
    for group in svg_of(client.get("/results").text, "map").iter(f"{SVG}g"):
        texts = [t.text for t in group.iter(f"{SVG}text")]
        tiles[f"gh_{str(texts[0]).lower()}"] = (texts[1], group.get("class"))
    assert set(tiles) == set(figures)
    hidden = {region for region, e in figures.items() if e.mark in ("c", "u")}
    assert {region for region, (_, shade) in tiles.items() if shade == "sx"} == hidden
    assert hidden
    for region, (text, _) in tiles.items():
        assert text == (
            "–" if region in hidden else f"{charts.written(figures[region], figures[region].share)}%"
        )


def test_no_hidden_figure_is_anywhere_in_the_page(folder: Path, client: TestClient) -> None:
    """A table's row of a hidden figure holds no number but, where it may, its base."""
    page = client.get("/results").text
    rows = re.findall(
        r'<tr><th scope="row">([^<]+)</th><td colspan="2" class="why">([^<]+)</td><td class="n">(.*?)</td>',
        page,
    )
    hidden = [e for v in ("region", "sex", "age", "residence", "disability")
              for e in one_way(released(folder), "health", v) if e.mark in ("c", "u")]  # fmt: skip
    assert len(rows) == len(hidden) > 0
    assert sorted(base for *_, base in rows) == sorted("–" if e.mark == "c" else f"{e.n:,}" for e in hidden)
    assert {why for _, why, _ in rows} <= {words_of("en")[k] for k in ("why_c", "why_u", "why_wide")}


# ---------------------------------------------------------------- HTTP


@pytest.mark.parametrize(
    "path", [f"/results?service={s}&lang={x}" for s in SERVICES for x in LANGUAGES] + ["/open-data"]
)
def test_a_page_and_its_style_are_small(client: TestClient, path: str) -> None:
    page = client.get(path)
    style = (ROOT / "gateway/pages/static/results.css").stat().st_size
    assert len(page.content) + style < MOST_OCTETS
    assert "<script" not in page.text and " style=" not in page.text
    files = re.findall(r'<(?:link|img|script)[^>]* (?:href|src)="([^"]+)"', page.text)
    assert all(f.startswith("/static/") or f == "/open-data/catalogue.jsonld" for f in files)


@pytest.mark.parametrize(
    ("asked", "accepted", "code"),
    [
        ("", "", "en"), ("", "fr-CA, en;q=0.8", "fr"), ("", "en;q=0.2, fr;q=0.9", "fr"), ("en", "fr", "en"),
        ("xx", "fr", "fr"), ("", "de, ak", "en"), ("", "fr;q=0", "en"), ("", "fr;q=x", "en"),
        ("", ",;,", "en"),
    ],
)  # fmt: skip
def test_the_language_is_asked_for_or_preferred(asked: str, accepted: str, code: str) -> None:
    assert language_of(asked, accepted) == code


@given(st.text(), st.text(alphabet="enfr-;,q=.0159 *", max_size=60))
def test_any_header_has_a_language(asked: str, accepted: str) -> None:
    assert language_of(asked, accepted) in LANGUAGES


def test_both_languages_say_the_same_things() -> None:
    english, french = words_of("en"), words_of("fr")
    assert english.texts.keys() == french.texts.keys() and english.files.keys() == french.files.keys()
    for key, text in english.texts.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", french[key])), key
        assert french[key]


def test_no_word_is_left_over() -> None:
    files = [*(ROOT / "gateway").rglob("*.html"), *(ROOT / "gateway").rglob("*.py")]
    said = "".join(path.read_text("utf-8") for path in files)
    assert [k for k in words_of("en").texts if not re.search(rf'\bw\.{k}\b|"{k}"', said)] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_file_is_called_what_it_is(folder: Path, client: TestClient, code: str) -> None:
    words, at = words_of(code), folder / "releases/pilot-2026/2"
    called = {file.name: words.file(file.name) for file in at.iterdir()}
    assert all(called.values())
    assert [name for name, what in called.items() if what == words.files[".csv"] and "sdmx" not in name] == []
    page = client.get(f"/results?lang={code}").text
    assert f'/2/answers.csv">{called["answers.csv"]}</a>' in page


def test_french_pages_speak_french(client: TestClient) -> None:
    page = client.get("/results", headers={"Accept-Language": "fr"})
    assert '<html lang="fr">' in page.text and "Soins de santé" in page.text
    assert re.search(r"\d,\d\N{NO-BREAK SPACE}%", page.text)
    assert page.headers["vary"].startswith("Accept-Language")


def test_the_caution_stands_beside_the_figures(client: TestClient) -> None:
    newest, first = client.get("/results").text, client.get("/results/pilot-2024/1").text
    assert "modelled as if" in newest and "modelled as if" in first
    assert "are not weighted" in first and "are not weighted: they" not in newest
    assert "Made-up totals of residents" in newest  # the margins' source
    assert "3,200 people answered" in newest


def test_an_older_version_says_so_and_stays(client: TestClient) -> None:
    page = client.get("/results/pilot-2026/1")
    assert page.status_code == 200 and "There is a newer version" in page.text
    assert "There is a newer version" not in client.get("/results/pilot-2026/2").text
    moved = client.get("/results/pilot-2026", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (302, "/results/pilot-2026/2")
    assert "joined with their neighbours" in page.text  # the reason of version 2


@pytest.mark.parametrize(
    "path",
    [
        "/results/pilot-2026/9", "/results/none/1", "/results/..%2f..%2fetc/1", "/results/none",
        "/results/pilot-2026/1/none.csv", "/results/pilot-2026/1/..%2f..%2f..%2fdial16.sqlite3",
        "/results/pilot-2026/1/%2e%2e", "/results/pilot-2026/99/release.json",
        f"/results/pilot-2026/{'9' * 5000}", f"/open-data/pilot-2026/{'9' * 5000}",
    ],
)  # fmt: skip
def test_what_was_not_published_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_before_the_first_release(tmp_path: Path) -> None:
    client = TestClient(application(tmp_path))
    assert "No results have been published yet" in client.get("/results").text
    assert "No results have been published yet" in client.get("/open-data").text
    catalogue = client.get("/open-data/catalogue.jsonld").json()
    assert (catalogue["dcat:dataset"], catalogue["@context"]) == ([], CONTEXT)


def test_a_damaged_release_takes_nothing_else_down(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "releases", tmp_path / "releases")
    broken = tmp_path / "releases" / "pilot-2026" / "2" / "release.json"
    broken.chmod(0o644)
    broken.write_text("{")
    client = TestClient(application(tmp_path))
    page = client.get("/results")
    assert page.status_code == 200 and "version 1" in page.text
    assert client.get("/results/pilot-2026/2").status_code == 404


def test_files_come_whole_in_parts_and_only_once(folder: Path, client: TestClient) -> None:
    at = folder / "releases" / "pilot-2026" / "2"
    for file in sorted(at.iterdir()):
        got = client.get(f"/results/pilot-2026/2/{file.name}")
        assert got.content == file.read_bytes(), file.name
        assert got.headers["etag"] == f'"{sha256(got.content).hexdigest()}"'
        assert got.headers["cache-control"].endswith("immutable")
        assert got.headers["x-content-type-options"] == "nosniff"
        part = client.get(f"/results/pilot-2026/2/{file.name}", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, file.read_bytes()[10:20])
        again = client.get(
            f"/results/pilot-2026/2/{file.name}", headers={"If-None-Match": got.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
    kinds = {f: client.get(f"/results/pilot-2026/2/{f}").headers["content-type"] for f in
             ("estimates.csv", "estimates.xlsx", "release.json", "dcat.jsonld", "SHA256SUMS")}  # fmt: skip
    assert kinds == {
        "estimates.csv": "text/csv; charset=utf-8",
        "estimates.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "release.json": "application/json",
        "dcat.jsonld": "application/ld+json",
        "SHA256SUMS": "text/plain; charset=utf-8",
    }


def test_a_page_known_to_the_reader_is_not_sent_again(client: TestClient) -> None:
    page = client.get("/results")
    assert client.get("/results", headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    assert client.get("/results?lang=fr", headers={"If-None-Match": page.headers["etag"]}).status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_a_new_release_is_on_the_page_at_once(tmp_path: Path) -> None:
    publish_waves(tmp_path, (900,))
    client = TestClient(application(tmp_path))
    assert "pilot-2026" not in client.get("/results").text
    publish_waves(tmp_path / "other", (900, 900))
    (tmp_path / "other/releases/pilot-2026").rename(tmp_path / "releases/pilot-2026")
    assert "pilot-2026" in client.get("/results").text
    assert "pilot-2026" in client.get("/open-data").text


def test_the_catalogue_names_every_file_with_its_checksum(folder: Path, client: TestClient) -> None:
    catalogue = client.get("/open-data/catalogue.jsonld").json()
    assert catalogue["@type"] == "dcat:Catalog"
    entries = {entry["dct:identifier"]: entry for entry in catalogue["dcat:dataset"]}
    assert set(entries) == {"16-6-2/pilot-2024/1", "16-6-2/pilot-2026/1", "16-6-2/pilot-2026/2"}
    for file in entries["16-6-2/pilot-2026/2"]["dcat:distribution"]:
        address = file["dcat:downloadURL"]["@id"]
        assert address.startswith("https://results.example.org/results/pilot-2026/2/")
        got = client.get(address.removeprefix("https://results.example.org"))
        assert sha256(got.content).hexdigest() == file["spdx:checksum"]["spdx:checksumValue"]["@value"]
        assert file["dcat:accessURL"]["@id"].startswith("https://results.example.org/results/pilot-2026/2/")
    landing = entries["16-6-2/pilot-2026/2"]["dcat:landingPage"]["@id"]
    assert client.get(landing.removeprefix("https://results.example.org"), follow_redirects=False).is_success
    page = client.get("/open-data").text
    sums = (folder / "releases/pilot-2026/2/SHA256SUMS").read_text()
    assert all(line.split()[0] in page for line in sums.splitlines())
    assert "https://creativecommons.org/licenses/by/4.0/" in page
    assert "https://results.example.org/results/pilot-2026/2" in page  # the citation


def test_every_version_has_a_page_with_its_files(folder: Path, client: TestClient) -> None:
    for wave, version in (("pilot-2024", 1), ("pilot-2026", 1), ("pilot-2026", 2)):
        path = f"/open-data/{wave}/{version}"
        assert f'href="{path}?lang=en#files"' in client.get("/open-data").text
        assert f'href="{path}?lang=en#files"' in client.get(f"/results/{wave}/{version}").text
        page = client.get(path).text
        listed = re.findall(rf'<a href="/results/{wave}/{version}/([^"]+)">.*?</span>(\w{{64}})', page)
        sums = (folder / "releases" / wave / str(version) / "SHA256SUMS").read_text().splitlines()
        assert [f"{digest}  {name}" for name, digest in listed] == sums
    assert client.get("/open-data/pilot-2026/9").status_code == 404


def test_forty_releases_fit_the_page_of_open_data(folder: Path, tmp_path: Path) -> None:
    whole = released(folder)
    small = replace(whole, answers=(), estimates=tuple(e for e in whole.estimates if not e.domain))
    more_waves(small, tmp_path / "releases", tuple(range(1987, 2026)))
    shutil.copytree(folder / "releases/pilot-2026/2", tmp_path / "releases/pilot-2026/2")
    page = TestClient(application(tmp_path)).get("/open-data?lang=fr")
    assert page.text.count("fichiers et empreintes</a>") == 40 and "estimates.xlsx" in page.text
    assert len(page.content) + (ROOT / "gateway/pages/static/results.css").stat().st_size < MOST_OCTETS


@pytest.mark.parametrize(
    ("licence", "free"),
    [
        ("https://creativecommons.org/licenses/by/4.0/", True),
        ("http://creativecommons.org/publicdomain/zero/1.0/deed.fr", True),
        ("https://creativecommons.org/licenses/by-nc-nd/4.0/", False),
        ("https://office.example/terms?like=https://creativecommons.org/licenses/by/4.0/", False),
    ],
)
def test_what_is_allowed_is_said_of_free_licences_only(
    folder: Path, tmp_path: Path, licence: str, free: bool
) -> None:
    at = tmp_path / "releases/pilot-2026/1"
    at.mkdir(parents=True)
    (at / FILE).write_text(as_json(replace(released(folder), version=1, licence=licence)))
    page = TestClient(application(tmp_path)).get("/open-data").text
    assert ("also commercially" in page) is free
    assert ("How the data may be used stands in the licence" in page) is not free


@pytest.mark.parametrize(
    ("extension", "earlier", "path", "dial"),
    [
        ("2", (), "/results/pilot-2026/2", "*384*16*2#"),
        ("", (), "/results/pilot-2026/2", "*384*16#"),
        ("2", (), "/results/pilot-2026/1", ""),  # not the newest
        ("2", ("pilot-2024",), "/results/pilot-2024/1", ""),  # the wave has results of its own
        ("2", ("none", "pilot-2026"), "/results?lang=fr", "*384*16*2#"),
    ],
)
def test_the_page_says_what_to_dial(
    folder: Path, extension: str, earlier: tuple[str, ...], path: str, dial: str
) -> None:
    from tests.stand_in import wave

    ours = replace(wave(), id="pilot-2028" if "none" in earlier else "pilot-2026",
                   sharing=Sharing(extension, earlier=earlier))  # fmt: skip
    page = TestClient(application(folder, waves=[ours])).get(path).text
    assert re.findall(r'<a class="dial" href="tel:([^"]+)">([^<]+)</a>', page) == (
        [(dial.replace("#", "%23"), dial)] if dial else []
    )
    assert ("under “See results”" in page) is (dial == "*384*16#")


def test_the_pages_carry_no_analysis_library() -> None:
    code = (
        "import sys, gateway.app, gateway.results, gateway.staff_results;"
        "print([m for m in ('numpy', 'scipy', 'pandas', 'duckdb') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "[]\n", ran.stderr


# ---------------------------------------------------------------- the office's own map


def square(x: float, y: float, size: float = 1.0) -> list[list[list[float]]]:
    return [[[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]]


def geojson(tmp_path: Path, **changes: Any) -> Path:
    """A country of squares: regions 1 to 16 in rows of four."""
    features = [
        {"type": "Feature", "properties": {"REGIONID": str(n + 1)},
         "geometry": {"type": "Polygon", "coordinates": square(-3 + n % 4, 5 + n // 4)}}
        for n in range(16)
    ]  # fmt: skip
    for place, change in changes.items():
        features[int(place.removeprefix("at"))] |= change
    path = tmp_path / "map.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_an_office_s_map_takes_the_place_of_the_tiles(folder: Path, tmp_path: Path) -> None:
    boundaries = load_boundaries(geojson(tmp_path), regions_of(instrument()))
    assert set(boundaries.shapes) == set(regions_of(instrument()))
    assert abs(boundaries.width - boundaries.height) <= 0.02 * boundaries.height
    page = TestClient(application(folder, boundaries=boundaries)).get("/results").text
    drawing = svg_of(page, "map")
    assert len(list(drawing.iter(f"{SVG}path"))) == 16
    assert "<title>Greater Accra: " in page


def test_a_map_of_many_points_stays_small(tmp_path: Path) -> None:
    from math import cos, sin, tau

    ring = [[-2.5 + 0.5 * cos(tau * k / 5000), 5.5 + 0.5 * sin(tau * k / 5000)] for k in range(5001)]
    path = geojson(tmp_path, at0={"geometry": {"type": "MultiPolygon", "coordinates": [[ring]]}})
    boundaries = load_boundaries(path, regions_of(instrument()))
    assert sum(len(s.outline) for s in boundaries.shapes.values()) < 14_000


@pytest.mark.parametrize(
    ("jag", "points", "message"),
    [
        (0.05, 800, ""),  # fits on a coarse grid
        (0.3, 800, "map.geojson: its outlines take "),
        (1e-4, 40, "nothing is left of GH-AA at the size of a page"),
    ],
)
def test_jagged_maps_fit_or_are_refused(tmp_path: Path, jag: float, points: int, message: str) -> None:
    """Stars for regions; in the last row one is too small to be seen."""
    from math import cos, sin, tau
    from random import Random

    chance = Random(1)

    def star(n: int, size: float = 0.5) -> dict[str, Any]:
        x, y = -3 + n % 4, 5 + n // 4
        turns = [(tau * k / points, size * (1 + jag * chance.uniform(-1, 1))) for k in range(points)]
        ring = [[x + r * cos(turn), y + r * sin(turn)] for turn, r in turns]
        return {"geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}

    stars = {f"at{n}": star(n) for n in range(16)}
    if jag < 0.01:
        stars["at2"] = star(2, 1e-4)
    path = geojson(tmp_path, **stars)
    if message:
        with pytest.raises(MapError, match=re.escape(message)):
            load_boundaries(path, regions_of(instrument()))
    else:
        shapes = load_boundaries(path, regions_of(instrument())).shapes.values()
        assert sum(len(s.outline) for s in shapes) <= 14_000 and all(s.outline for s in shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"properties": {"REGIONID": "17"}}, "feature 3 (17): is no region of the questionnaire"),
        ({"properties": None}, "feature 3 (no code): is no region"),
        ({"properties": {"REGIONID": "1"}}, "no feature for GH-AA; add it"),
        ({"geometry": {"type": "Point", "coordinates": [1, 2]}}, "feature 3: is no polygon"),
        ({"geometry": None}, "feature 3: is no polygon"),
        ({"geometry": {"type": "Polygon", "coordinates": square(600_000, 700_000)}}, "are no degrees"),
    ],
)  # fmt: skip
def test_a_map_that_does_not_fit_is_refused_by_feature(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(MapError, match=re.escape(message)):
        load_boundaries(geojson(tmp_path, at2=change), regions_of(instrument()))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"features": 1}'])
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.geojson"
    path.write_text(text)
    with pytest.raises(MapError, match=r"map\.geojson: no (GeoJSON|feature)"):
        load_boundaries(path, regions_of(instrument()))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["Polygon", "MultiPolygon"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "coordinates", "geometry", "properties", "id"]), inner)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(feature=_JSON)
def test_any_feature_is_a_region_or_refused(tmp_path: Path, feature: Any) -> None:
    path = geojson(tmp_path)
    whole = json.loads(path.read_text())
    whole["features"].append(feature)
    path.write_text(json.dumps(whole))
    with contextlib.suppress(MapError):
        assert len(load_boundaries(path, regions_of(instrument())).shapes) == 16


# ---------------------------------------------------------------- in a browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("path", ["/results?by=region", "/results?service=government&lang=fr", "/open-data"])
def test_three_widths_light_and_dark(browser: Browser, url: str, path: str, width: int, scheme: str) -> None:
    size = {"width": width, "height": 800}
    with opened(browser, url + path, viewport=size, color_scheme=scheme, java_script_enabled=True) as page:
        assert page.evaluate("() => document.documentElement.scrollWidth") == width
        too_wide = page.evaluate(
            """() => [...document.querySelectorAll("svg:not(.map) text, td, th, .big")]
                 .filter(e => { if (e.closest(".scroll")) return false; const r = e.getBoundingClientRect();
                    return r.width && (r.left < -1 || r.right > innerWidth + 1) })
                 .map(e => e.textContent)"""
        )
        assert too_wide == []
        assert faint(page) == []


def faint(page: Page) -> list[str]:
    """Texts with less contrast to the page's or their box's paper than WCAG asks of plain text (4.5)."""
    found: list[str] = page.evaluate(
        """() => {
          const rgb = c => c.match(/[\\d.]+/g).map(Number);
          const part = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
          const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
          const behind = e => {
            for (; e; e = e.parentElement) {
              const c = rgb(getComputedStyle(e).backgroundColor);
              if (c.length < 4 || c[3] > 0) return c;
            }
            return [255, 255, 255];
          };
          const bad = [], texts = "p, td, th, dt, dd, a, h1, h2, h3, small, span, li, svg text";
          for (const e of document.querySelectorAll(texts)) {
            if (!e.textContent.trim() || !e.getClientRects().length) continue;
            const style = getComputedStyle(e), svg = e.closest("svg");
            const tile = e.closest("g") && e.closest("g").querySelector("rect");
            const paper = tile ? getComputedStyle(tile).fill : "";
            const under = paper.startsWith("rgb") ? rgb(paper) : behind(svg ? svg.parentElement : e);
            const two = [light(rgb(svg ? style.fill : style.color)), light(under)].sort((x, y) => y - x);
            const contrast = (two[0] + .05) / (two[1] + .05);
            if (contrast < 4.5) bad.push(e.textContent.trim().slice(0, 40) + " " + contrast.toFixed(2));
          }
          return bad;
        }"""
    )
    return found


def test_the_page_works_without_script(browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url + "/results")
    page.get_by_role("link", name="Government services").click()
    expect(page.get_by_role("heading", name="Government services", level=2)).to_be_visible()
    page.get_by_role("link", name="Women and men").click()
    expect(page.get_by_role("table", name="Women and men, wave by wave")).to_be_visible()
    expect(page.locator(".panels li")).to_have_count(2)
    page.get_by_role("link", name="Français").click()
    expect(page.locator(".choice [aria-current]")).to_have_text("Femmes et hommes")
    expect(page.get_by_role("heading", name="Services administratifs", level=2)).to_be_visible()
    context.close()


def test_by_keyboard_from_top_to_download(browser: Browser, url: str) -> None:
    with opened(browser, url + "/results") as page:
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the results")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_contain_text("Health care")
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        for _ in range(40):
            page.keyboard.press("Tab")
            if "Spreadsheet" in (page.locator(":focus").text_content() or ""):
                break
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == "16-6-2_pilot-2026_2_estimates.xlsx"


def test_what_a_screen_reader_is_told(browser: Browser, url: str) -> None:
    with opened(browser, url + "/results") as page:
        names = [image.get_attribute("aria-labelledby") for image in page.get_by_role("img").all()]
        assert len(names) >= 7
        chart = page.get_by_role("img", name="By region: Health care")
        assert "Highest: " in (chart.locator("desc").text_content() or "")
        table = page.get_by_role("table", name="By region: Health care")
        expect(table.get_by_role("row")).to_have_count(18)  # heading, 16 regions, national
        levels = page.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        assert page.locator("[aria-current=true]").count() == 3  # language, service and breakdown


def test_it_prints_in_black_on_white(browser: Browser, url: str) -> None:
    with opened(browser, url + "/results", color_scheme="light") as page:
        page.emulate_media(media="print")
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator(".langs").is_hidden()
        assert (
            page.evaluate("() => getComputedStyle(document.querySelector('svg')).printColorAdjust") == "exact"
        )


def test_pictures_for_the_documentation(browser: Browser, url: str, six: Path) -> None:
    shots = os.environ.get("SHOTS")
    with serving(application(six)) as waves:
        for name, width, height, scheme, address in (
            ("results", 1280, 1500, "light", url + "/results"),
            ("results-phone", 360, 1500, "light", url + "/results"),
            ("results-dark", 768, 1300, "dark", url + "/results?service=government&lang=fr"),
            ("results-groups", 1280, 1000, "light", waves + "/results?by=region#groups"),
        ):
            size = {"width": width, "height": height}
            with opened(browser, address, viewport=size, color_scheme=scheme) as page:
                expect(page.locator("h1")).to_have_count(1)
                if shots:
                    page.screenshot(path=Path(shots) / f"{name}.png")
