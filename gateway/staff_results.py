"""Results for staff: a wave's next release as it would look, and tables that no release holds.

    GET  /fieldwork/results          what can be asked, and what was
    POST /fieldwork/results          ask; a worker answers
    GET  /fieldwork/results/{id}     the answer, or that it is being computed
    GET  /fieldwork/results/{id}/hidden      every figure that a draft hides, with the reason

They stand under the fieldwork page's path, so that its sign-in holds here too: `refuse` is its door. Every
question is kept with the name of whoever asked; rules and reasons are those of a release.
What the program says of itself is in English where words/staff.fr.toml has no French for it.
"""

import asyncio
import gzip
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from flows.instrument import Instrument
from gateway.pages import HEADERS
from gateway.pages.words import Words, words_of
from gateway.published import Published
from gateway.results import ResultsPages, language, takes_gzip
from gateway.results_table import line_of
from storage.analysis import queries
from storage.analysis.estimates import ATTRIBUTES, OVERALL
from storage.analysis.labels import Labels

log = logging.getLogger("dial16.staff_results")

PATH = "/fieldwork/results"
_MOST_FORM = 2048  # octets
_LISTED = 20  # questions
_RELOAD_SECONDS = 2
_OF_A_MEAN = " is hidden"  # after the attribute, see storage/analysis/disclosure.py
_NONE = "No such question was asked."
_LEAST_NAME, _MOST_NAME = 2, 80

_HEADERS = HEADERS | {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    )
}

#: None: may look. Else the answer for who may not: the fieldwork page's sign-in, or a status.
Door = Callable[[Request], Response | None]


class StaffResults:
    """Questions and answers. `enqueue` has a worker answer the question of an id."""

    def __init__(
        self,
        engine: Engine,
        instrument: Instrument,
        waves: Sequence[str],
        published: Published,
        pages: ResultsPages,
        enqueue: Callable[[str], None],
    ):
        self._engine, self._instrument, self._waves = engine, instrument, waves
        self._published, self._pages, self._enqueue = published, pages, enqueue

    def overview(self, code: str, said: str = "") -> str:
        """The page to ask on, in a language. `said`: what to mend."""
        words = words_of(code)
        labels = self._pages.labels(words)
        released = list(dict.fromkeys(e.wave for e in self._published.editions()))
        offered = {v for wave in released for v in self._variables(wave)}
        return self._pages.render(
            "staff_results.html", words, PATH, {},
            waves=list(dict.fromkeys([*self._waves, *released])), released=released,
            measures=[
                (f"{service}/{measure}", f"{labels.service(service)}: {labels.measure(measure)}")
                for service, measure in self._measures()
            ],
            variables=[v for v in labels.variables if v in offered], labels=labels, said=said,
            crossed=lambda variables: _crossed(variables, labels, words),
            asked=queries.asked(self._engine, _LISTED),
        )  # fmt: skip

    def ask(self, form: dict[str, str]) -> tuple[str, str]:
        """The id of the question, or "" and what to mend in the form."""
        by, kind, wave = (form.get(name, "").strip() for name in ("by", "kind", "wave"))
        known = {*self._waves, *(e.wave for e in self._published.editions())}
        if not (_LEAST_NAME <= len(by) <= _MOST_NAME and by.isprintable()) or by.startswith(queries.API):
            return "", "Give your name: every question is kept with it."
        if wave not in known:
            return "", "Choose one of the waves."
        if kind == queries.DRAFT:
            id = queries.ask(self._engine, queries.DRAFT, wave, by)
        else:
            service, _, measure = form.get("measure", "").partition("/")
            if (service, measure) not in self._measures():
                return "", "Choose one of the measures."
            variables = tuple(v for v in (form.get("first", ""), form.get("second", "")) if v)
            if len(set(variables)) < len(variables) or not set(variables) <= self._variables(wave):
                return "", "Choose two different variables that the wave's release has, one, or none."
            id = queries.ask(
                self._engine, queries.QUERY, wave, by, service=service, measure=measure, variables=variables
            )
        try:
            self._enqueue(id)
        except redis.RedisError as error:  # it stays written down: the workers' sweep finds it
            log.warning("the queue is not reached: %s", type(error).__name__)
        return id, ""

    def answer(self, id: str, service: str, code: str) -> tuple[str, int]:
        """The page of a question, and its status."""
        asked = queries.find(self._engine, id)
        if asked is None:
            return self.overview(code, _NONE), 404
        if asked.state == queries.DONE and asked.answer and asked.kind == queries.DRAFT:
            return self._draft(asked, service, code), 200
        words = words_of(code)
        labels = self._pages.labels(words)
        values: dict[str, object] = {"lines": [], "caution": "", "version": 0}
        if asked.state == queries.DONE and asked.answer:
            figures, caution, version = queries.read_figures(asked.answer)
            values = {
                "lines": [
                    (
                        line_of(labels.domain(e.domain), e, words),
                        words.said(e.notes[-1]) if e.mark == "u" else "",
                    )
                    for e in figures
                ],
                "caution": caution, "version": version, "r": self._published.release(asked.wave, version),
            }  # fmt: skip
        title = _crossed(asked.variables, labels, words)
        page = self._pages.render(
            "staff_answer.html", words, f"{PATH}/{id}", {},
            asked=asked, title=title[:1].upper() + title[1:] or labels.national, labels=labels,
            reload=_RELOAD_SECONDS if asked.state in (queries.WAITING, queries.RUNNING) else 0, **values,
        )  # fmt: skip
        return page, 200

    def hidden(self, id: str, code: str) -> tuple[str, int]:
        """The page of what a draft hides, and its status: service, measure and reason, then whom."""
        asked = queries.find(self._engine, id)
        if asked is None or asked.kind != queries.DRAFT or not asked.answer:
            return self.answer(id, "", code)
        words = words_of(code)
        labels = self._pages.labels(words)
        found: dict[str, dict[str, dict[tuple[str, str], list[str]]]] = {}
        for service, measure, domain, mark, why in queries.read_draft(asked.answer)[1]:
            rows = found.setdefault(service, {}).setdefault(measure, {})
            rows.setdefault((mark, _why(why, words, labels)), []).append(labels.domain(domain))
        page = self._pages.render(
            "staff_hidden.html", words, f"{PATH}/{id}/hidden", {},
            hidden=found, labels=labels, wave=asked.wave, draft=f"{PATH}/{id}",
        )  # fmt: skip
        return page, 200

    def _draft(self, asked: queries.Asked, service: str, code: str) -> str:
        release, why, faults = queries.read_draft(asked.answer)
        words = words_of(code)
        counts = dict(Counter((mark, _why(reason, words)) for *_, mark, reason in why).most_common())
        return self._pages.draft(release, service, f"{PATH}/{asked.id}", counts, words, faults)

    def _variables(self, wave: str) -> set[str]:
        """What a table of the wave may be broken down by: the variables of its newest release."""
        newest = [e for e in self._published.editions() if e.wave == wave and e.newest]
        return {figure.domain[0][0] for edition in newest for figure in edition.groups}

    def _measures(self) -> list[tuple[str, str]]:
        found = []
        items = self._instrument.items
        for service in dict.fromkeys(i.service for i in items if i.role == OVERALL and i.service):
            found += [(service, OVERALL), (service, ATTRIBUTES)]
            found += [(service, i.id) for i in items if i.service == service and i.role == "attribute"]
        return found


def _why(reason: str, words: Words, labels: Labels | None = None) -> str:
    """Why a figure is hidden; a mean for one of its attributes, which labels name."""
    part = reason.removesuffix(_OF_A_MEAN)
    if part == reason:
        return words.said(reason)
    return words["staff_part"] + (f" ({labels.measure(part)})" if labels else "")


def _crossed(variables: Sequence[str], labels: Labels, words: Words) -> str:
    """A table's variables in words: by Sex and Age."""
    names = [labels.variable(v) for v in variables]
    if len(names) > 1:
        return words.say("staff_by_two", first=names[0], second=names[1])
    return words.say("staff_by_one", variable=names[0]) if names else ""


async def _page(request: Request, text: str, status: int = 200) -> Response:
    """A page, compressed for who takes that."""
    headers = {**_HEADERS, "Vary": "Accept-Language, Accept-Encoding"}
    if not takes_gzip(request):
        return HTMLResponse(text, status, headers)
    squeezed = await asyncio.to_thread(gzip.compress, text.encode(), mtime=0)
    return HTMLResponse(squeezed, status, {**headers, "Content-Encoding": "gzip"})


def staff_results_routes(staff: StaffResults, refuse: Door) -> list[BaseRoute]:
    """The routes, each behind the door."""

    def behind(show: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            refused = refuse(request)
            if refused is not None:
                return refused
            try:
                return await show(request)
            except SQLAlchemyError as error:  # its text may name the address and the user
                log.warning("no staff results: %s", type(error).__name__)
                return HTMLResponse("The database is away; try again in a moment.", 503, _HEADERS)

        return guarded

    async def overview(request: Request) -> Response:
        return await _page(request, await asyncio.to_thread(staff.overview, language(request)))

    async def ask(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_FORM:
                return HTMLResponse("The form is too long.", 413, _HEADERS)
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        id, said = await asyncio.to_thread(staff.ask, form)
        if said:
            page = await asyncio.to_thread(staff.overview, language(request), said)
            return await _page(request, page, 400)
        return RedirectResponse(f"{PATH}/{id}?lang={language(request)}", 303, _HEADERS)

    async def answer(request: Request) -> Response:
        service = request.query_params.get("service", "")[:32]
        id = request.path_params["id"][:32]
        return await _page(request, *await asyncio.to_thread(staff.answer, id, service, language(request)))

    async def hidden(request: Request) -> Response:
        id = request.path_params["id"][:32]
        return await _page(request, *await asyncio.to_thread(staff.hidden, id, language(request)))

    return [
        Route(PATH, behind(overview), methods=["GET"]),
        Route(PATH, behind(ask), methods=["POST"]),
        Route(PATH + "/{id}", behind(answer), methods=["GET"]),
        Route(PATH + "/{id}/hidden", behind(hidden), methods=["GET"]),
    ]
