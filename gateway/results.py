"""The public pages: results, downloads, open data. Everything in them comes from the releases' folder.

    /results                         the release issued last, in the reader's language; ?service=, ?by=
    /results/{wave}/{version}        one release, for good
    /results/{wave}/{version}/{file} its files
    /open-data                       licence, citation, versions; the files and checksums of the newest
    /open-data/{wave}/{version}      the same with those of another release
    /open-data/catalogue.jsonld      the same for machines

A page is made once for each release, service, breakdown and language and kept; making and compressing it
happens off the event loop, so that no hop waits for it.
"""

import asyncio
import gzip
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from flows.instrument import Instrument
from flows.wave import Wave
from gateway.catalogue import catalogue
from gateway.pages import HEADERS, static_versions, templates
from gateway.pages.boundaries import Boundaries
from gateway.pages.charts import CLASSES, LINE
from gateway.pages.words import LANGUAGES, Words, language_of, words_of
from gateway.published import Edition, Published
from gateway.results_page import BREAKDOWNS, citation, phone_of, view
from storage.analysis.exports.dcat import MEDIA_TYPES
from storage.analysis.labels import Labels, labels_of
from storage.analysis.release import Release

_PAGES_KEPT = 64
_VERSIONS = 6  # the newest, on a page of results; all are under /open-data
_PAGE_SECONDS = 300  # that a reader's browser, or a cache between, keeps a page without asking
#: Licences that let anybody use, share and change the data, also commercially: CC BY, CC0.
_FREE = re.compile(r"https?://(www\.)?creativecommons\.org/(licenses/by/|publicdomain/zero/)")
_FOR_GOOD = "public, max-age=31536000, immutable"

PUBLIC_HEADERS = {name: value for name, value in HEADERS.items() if name != "Cache-Control"} | {
    "Cache-Control": f"public, max-age={_PAGE_SECONDS}",
    "Vary": "Accept-Language",
}


class ResultsPages:
    """The pages, rendered from what is published. `address`: of this site on the web; "" = not known.
    `waves`: that people can dial for results."""

    def __init__(
        self,
        published: Published,
        instrument: Instrument,
        *,
        boundaries: Boundaries | None = None,
        address: str = "",
        waves: Sequence[Wave] = (),
    ):
        self.published, self._instrument = published, instrument
        self._boundaries, self._address = boundaries, address.rstrip("/")
        self._waves = waves
        self._where = f"{self._address}/results" if address else ""
        self._templates = templates()
        self._static = static_versions()
        self._kept: OrderedDict[tuple[object, ...], str] = OrderedDict()

    def labels(self, words: Words) -> Labels:
        known = self._instrument.languages
        return labels_of(self._instrument, words.code if words.code in known else "")

    def results(self, wave: str, version: int, service: str, code: str, by: str = "") -> tuple[str, int]:
        """The page and its status; wave "": of the release issued last. `by`: whose trend is asked for."""
        editions = self.published.editions()
        shown = _one(editions, wave, version)
        if shown is None or service not in {e.service for e in shown.national}:
            service = ""  # the first; so that nobody fills the shelf of kept pages with names of their own
        by = by if by in BREAKDOWNS else ""
        key = ("results", shown and (shown.wave, shown.version), wave, service, by, code, _named(editions))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], 200
        words = words_of(code)
        release = self.published.release(shown.wave, shown.version) if shown else None
        if shown is None or release is None:
            page = self.render(
                "results_none.html", words, "/results", editions=editions, asked=bool(wave), query={}
            )
            return page, 404 if wave else 200
        labels = self.labels(words)
        base = f"/results/{shown.wave}/{shown.version}"
        made = view(
            release, editions, service, self._instrument, labels, words, self._boundaries,
            self._where, by,
        )  # fmt: skip
        chosen = made.trend.groups
        listed = [e for n, e in enumerate(editions) if n < _VERSIONS or e is shown]
        page = self.render(
            "results.html", words, base if wave else "/results",
            v=made, r=release, edition=shown, editions=listed, more=len(editions) > len(listed), staff=False,
            phone=phone_of(self._waves, editions, shown),
            named=set(self.published.sums(shown.wave, shown.version)),
            query={"service": made.service, **({"by": chosen.by} if chosen else {})},
        )  # fmt: skip
        return self._keep(key, page), 200

    def draft(
        self,
        release: Release,
        service: str,
        path: str,
        hidden: Mapping[tuple[str, str], int],
        words: Words,
        faults: Sequence[str] = (),
    ) -> str:
        """The page as it would look if `release` were published, how many figures it hides by mark and
        reason, and the faults for which it would be refused."""
        made = view(release, (), service, self._instrument, self.labels(words), words, self._boundaries)
        return self.render(
            "results.html", words, path, v=made, r=release, edition=None, editions=(), staff=True, phone=None,
            named=(), hidden=hidden, faults=faults, query={"service": made.service},
        )  # fmt: skip

    def open_data(self, wave: str, version: int, code: str) -> tuple[str, int]:
        """The page of open data, with the files of one release, and its status; wave "": the one issued
        last."""
        editions = self.published.editions()
        shown = _one(editions, wave, version)
        key = ("open", shown and (shown.wave, shown.version), wave, code, _named(editions))
        if key in self._kept:
            return self._kept[key], 200
        words = words_of(code)
        release = self.published.release(shown.wave, shown.version) if shown else None
        if release is None:
            page = self.render(
                "results_none.html", words, "/open-data", editions=editions, asked=bool(wave), query={}
            )
            return page, 404 if wave else 200
        folder = self.published.folder(release.wave, release.version)
        files = [
            (name, words.file(name), (folder / name).stat().st_size, digest)
            for name, digest in self.published.sums(release.wave, release.version).items()
            if folder is not None and (folder / name).is_file()
        ]
        page = self.render(
            "open_data.html", words, f"/open-data/{wave}/{version}" if wave else "/open-data",
            r=release, editions=editions, files=files, named={name for name, *_ in files}, query={},
            free=_FREE.match(release.licence) is not None, citation=citation(release, words, self._where),
        )  # fmt: skip
        return self._keep(key, page), 200

    def catalogue(self) -> str:
        """Every release as an entry of one DCAT catalogue."""
        key = ("catalogue", _named(self.published.editions()))
        if key not in self._kept:
            owner = self._waves[0].owner if self._waves else ""
            return self._keep(key, catalogue(self.published, self._address, owner))
        return self._kept[key]

    def file(self, wave: str, version: int, name: str) -> tuple[Path, str] | None:
        """A file of a release and its digest; only files that were issued with it, and their checksums."""
        folder = self.published.folder(wave, version)
        if folder is None:
            return None
        path = folder / name
        digest = self.published.sums(wave, version).get(name)
        if name == "SHA256SUMS" and path.is_file():
            digest = sha256(path.read_bytes()).hexdigest()
        return (path, digest) if digest is not None and path.is_file() else None

    def render(
        self, template: str, words: Words, path: str, query: Mapping[str, str], **values: object
    ) -> str:
        """A page. `query`: what its address keeps when the reader changes language."""
        others = [
            (code, words_of(code)["language"], f"{path}?{urlencode({**query, 'lang': code})}")
            for code in LANGUAGES
        ]
        rendered: str = self._templates.get_template(template).render(
            static=self._static,
            w=words,
            path=path,
            languages=others,
            classes=CLASSES,
            line=LINE,
            **values,
        )
        return rendered

    def _keep(self, key: tuple[object, ...], page: str) -> str:
        self._kept[key] = page
        while len(self._kept) > _PAGES_KEPT:
            self._kept.popitem(last=False)
        return page


def _one(editions: Sequence[Edition], wave: str, version: int) -> Edition | None:
    """That version; wave "": the newest of the wave issued last."""
    return next((e for e in editions if ((e.wave, e.version) == (wave, version) if wave else e.newest)), None)


def _named(editions: tuple[Edition, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((e.wave, e.version) for e in editions)


# ---------------------------------------------------------------- routes


class _Version(IntegerConvertor):
    regex = "[0-9]{1,5}"  # as folders are called; Python reads no number of thousands of digits


register_url_convertor("version", _Version())


def results_routes(pages: ResultsPages) -> list[BaseRoute]:
    """The public pages' routes."""

    async def results(request: Request) -> Response:
        wave = request.path_params.get("wave", "")
        version = request.path_params.get("version", 0)
        service = request.query_params.get("service", "")[:32]
        by = request.query_params.get("by", "")
        page, status = await asyncio.to_thread(pages.results, wave, version, service, language(request), by)
        return await _answer(request, page, "text/html; charset=utf-8", status)

    async def wave_only(request: Request) -> Response:
        """A wave without a version: its newest."""
        editions = await asyncio.to_thread(pages.published.editions)
        wave = request.path_params["wave"]
        newest = next((e for e in editions if e.wave == wave and e.newest), None)
        if newest is None:
            return await results(request)
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/results/{newest.wave}/{newest.version}{query}", 302, PUBLIC_HEADERS)

    async def file(request: Request) -> Response:
        params = request.path_params
        found = await asyncio.to_thread(pages.file, params["wave"], params["version"], params["name"])
        if found is None:
            return Response(
                "no such file in this release\n", 404, {**PUBLIC_HEADERS, "Content-Type": "text/plain"}
            )
        path, digest = found
        # The quality report has its style inside, and nothing else: see storage/analysis/quality_page.py.
        style = "style-src 'unsafe-inline'; " if path.suffix == ".html" else ""
        headers = {
            "ETag": f'"{digest}"', "Cache-Control": _FOR_GOOD, "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": f"default-src 'none'; {style}sandbox",
        }  # fmt: skip
        if _is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        kind = MEDIA_TYPES.get(path.suffix, "text/plain")
        shown = path.suffix in (".html", ".json", ".jsonld", ".md", ".yml", "")
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        return FileResponse(
            path, headers=headers, media_type=kind,
            filename=f"16-6-2_{params['wave']}_{params['version']}_{path.name}" if not shown else None,
        )  # fmt: skip

    async def open_data(request: Request) -> Response:
        wave, version = request.path_params.get("wave", ""), request.path_params.get("version", 0)
        page, status = await asyncio.to_thread(pages.open_data, wave, version, language(request))
        return await _answer(request, page, "text/html; charset=utf-8", status)

    async def listed(request: Request) -> Response:
        return await _answer(request, await asyncio.to_thread(pages.catalogue), "application/ld+json")

    def route(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, endpoint, methods=["GET"])  # and HEAD

    return [
        route("/results", results),
        route("/results/{wave}", wave_only),
        route("/results/{wave}/{version:version}", results),
        route("/results/{wave}/{version:version}/{name}", file),
        route("/open-data", open_data),
        route("/open-data/catalogue.jsonld", listed),
        route("/open-data/{wave}/{version:version}", open_data),
    ]


def language(request: Request) -> str:
    """The reader's."""
    return language_of(request.query_params.get("lang", ""), request.headers.get("accept-language", ""))


def takes_gzip(request: Request) -> bool:
    """Whether the reader has answers compressed."""
    return _TAKES_GZIP.search(request.headers.get("accept-encoding", "")) is not None


#: Takes gzip (RFC 9110, Accept-Encoding); a weight of 0 is a refusal.
_TAKES_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


async def _answer(request: Request, text: str, kind: str, status: int = 200) -> Response:
    """The page, compressed for who takes that: a quarter of it on a slow line."""
    headers = {
        **PUBLIC_HEADERS,
        "Vary": "Accept-Language, Accept-Encoding",
        "Content-Type": kind,
        "ETag": f'W/"{sha256(text.encode()).hexdigest()[:20]}"',
    }
    if status == 200 and _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if takes_gzip(request):
        squeezed = await asyncio.to_thread(_squeezed, text)
        return Response(squeezed, status, {**headers, "Content-Encoding": "gzip"})
    return Response(text, status, headers)


@lru_cache(_PAGES_KEPT)
def _squeezed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def _is_known(request: Request, etag: str) -> bool:
    """Whether the reader has it already (RFC 9110, If-None-Match: a weak comparison)."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or etag.removeprefix("W/") in [
        tag.strip().removeprefix("W/") for tag in given.split(",")
    ]
