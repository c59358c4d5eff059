"""Results for staff: a wave's next release as it would look, and tables that no release holds.

    GET  /fieldwork/results          what can be asked, and what was
    POST /fieldwork/results          ask; a worker answers
    GET  /fieldwork/results/{id}     the answer, or that it is being computed

They stand under the fieldwork page's path, so that its sign-in holds here too: `refuse` is its door. Every
question is kept with the name of whoever asked; rules and reasons are those of a release.
"""

import asyncio
import logging
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
from gateway.pages.words import words_of
from gateway.published import Published
from gateway.results import ResultsPages
from gateway.results_table import line_of
from storage.analysis import queries
from storage.analysis.estimates import ATTRIBUTES, OVERALL
from storage.analysis.labels import Labels

log = logging.getLogger("dial16.staff_results")

PATH = "/fieldwork/results"
_MOST_FORM = 2048  # octets
_LISTED = 20  # questions
_RELOAD_SECONDS = 2
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
        self._words = words_of("en")
        self.labels: Labels = pages.labels(self._words)
        self._variables = _variables(self.labels)

    def overview(self, said: str = "") -> str:
        """The page to ask on."""
        released = list(dict.fromkeys(e.wave for e in self._published.editions()))
        return self._pages.render(
            "staff_results.html", self._words, PATH, None,
            waves=list(dict.fromkeys([*self._waves, *released])), released=released,
            measures=[
                (f"{service}/{measure}", f"{self.labels.service(service)}: {self.labels.measure(measure)}")
                for service, measure in self._measures()
            ],
            variables=self._variables, labels=self.labels, said=said,
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
            if len(set(variables)) < len(variables) or not set(variables) <= set(self._variables):
                return "", "Choose two different variables, one, or none."
            id = queries.ask(
                self._engine, queries.QUERY, wave, by, service=service, measure=measure, variables=variables
            )
        try:
            self._enqueue(id)
        except redis.RedisError as error:  # it stays written down: the workers' sweep finds it
            log.warning("the queue is not reached: %s", type(error).__name__)
        return id, ""

    def answer(self, id: str, service: str) -> tuple[str, int]:
        """The page of a question, and its status."""
        asked = queries.find(self._engine, id)
        if asked is None:
            return self.overview("No such question was asked."), 404
        if asked.state == queries.DONE and asked.answer and asked.kind == queries.DRAFT:
            return self._draft(asked, service), 200
        values: dict[str, object] = {"lines": [], "caution": "", "version": 0}
        if asked.state == queries.DONE and asked.answer:
            figures, caution, version = queries.read_figures(asked.answer)
            values = {
                "lines": [
                    (
                        line_of(self.labels.domain(e.domain), e, self._words),
                        e.notes[-1] if e.mark == "u" else "",
                    )
                    for e in figures
                ],
                "caution": caution, "version": version,
            }  # fmt: skip
        title = " by ".join(self.labels.variable(v) for v in asked.variables) or self.labels.national
        page = self._pages.render(
            "staff_answer.html", self._words, f"{PATH}/{id}", None,
            asked=asked, title=title, labels=self.labels,
            reload=_RELOAD_SECONDS if asked.state in (queries.WAITING, queries.RUNNING) else 0, **values,
        )  # fmt: skip
        return page, 200

    def _draft(self, asked: queries.Asked, service: str) -> str:
        release, why, faults = queries.read_draft(asked.answer)
        hidden = [
            (self.labels.service(s), self.labels.measure(m), self.labels.domain(domain), mark, reason)
            for s, m, domain, mark, reason in why
        ]
        return self._pages.draft(release, service, f"{PATH}/{asked.id}", hidden, self._words, faults)

    def _measures(self) -> list[tuple[str, str]]:
        found = []
        items = self._instrument.items
        for service in dict.fromkeys(i.service for i in items if i.role == OVERALL and i.service):
            found += [(service, OVERALL), (service, ATTRIBUTES)]
            found += [(service, i.id) for i in items if i.service == service and i.role == "attribute"]
        return found


def _variables(labels: Labels) -> dict[str, str]:
    """Variables that the office breaks down by, with their words."""
    return {v: labels.variable(v) for v in labels.variables if labels.options.get(v)}


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
        return HTMLResponse(await asyncio.to_thread(staff.overview), headers=_HEADERS)

    async def ask(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_FORM:
                return HTMLResponse("The form is too long.", 413, _HEADERS)
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        id, said = await asyncio.to_thread(staff.ask, form)
        if said:
            return HTMLResponse(await asyncio.to_thread(staff.overview, said), 400, _HEADERS)
        return RedirectResponse(f"{PATH}/{id}", 303, _HEADERS)

    async def answer(request: Request) -> Response:
        service = request.query_params.get("service", "")[:32]
        page, status = await asyncio.to_thread(staff.answer, request.path_params["id"][:32], service)
        return HTMLResponse(page, status, _HEADERS)

    return [
        Route(PATH, behind(overview), methods=["GET"]),
        Route(PATH, behind(ask), methods=["POST"]),
        Route(PATH + "/{id}", behind(answer), methods=["GET"]),
    ]
