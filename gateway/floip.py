"""FLOIP Flow Results 1.1: a wave's answers as packages that other survey platforms read.

    GET {base}/packages                    a package a wave and version of the questionnaire
    GET {base}/packages/{id}               its descriptor
    GET {base}/packages/{id}/responses     its rows, a page at a time

JSON:API. A row's id holds its place in the order of answering, so it is also the cursor that the
specification wants; an answer that was changed later comes again as a new row. Source: FLOIP/flow-results,
1.1.0 (2021); where the text and its examples differ, names are those of the text.
"""

import hmac
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.routing import Route

from flows.instrument import NONRESPONSE, Instrument, Item
from gateway.asking import Answer, Asked, Desk, Problem, bad
from storage.analysis.dictionary import wordings
from storage.analysis.exports.asked import Values
from storage.analysis.rows import Wanted, response_page, wave_rows
from storage.database import reading
from storage.marks import stored_instrument

_KIND = "application/vnd.api+json"
_PAGE, _MOST = 1_000, 5_000  # rows
_NONRESPONSE = ".nonresponse"  # of an item that asks for a number: why there is none
#: Field, type: the seven of every row, in order (specification, "schema.fields").
_FIELDS = (
    ("timestamp", "Timestamp", "datetime"), ("row_id", "Row ID", "string"),
    ("contact_id", "Contact ID", "string"), ("session_id", "Session ID", "string"),
    ("question_id", "Question ID", "string"), ("response", "Response", "any"),
    ("response_metadata", "Response Metadata", "object"),
)  # fmt: skip


def floip_problem(problem: Problem) -> tuple[bytes, str]:
    """As JSON:API has errors."""
    body = {"status": str(problem.status), "title": problem.title, "detail": problem.detail}
    return orjson.dumps({"errors": [body]}), _KIND


def floip_routes(desk: Desk, base: str) -> list[Route]:
    def packages(asked: Asked) -> Answer:
        asked.only()
        data = [
            {"type": "packages", "id": _id(asked, row), "attributes": _head(asked, row),
             "links": {"self": f"{asked.base}{base}/packages/{_id(asked, row)}"}}
            for row in _held(asked)
        ]  # fmt: skip
        here = f"{asked.base}{base}/packages"
        return _answer({"data": data, "links": {"self": here, "next": None, "previous": None}})

    def package(asked: Asked) -> Answer:
        asked.only()
        row, instrument = _found(asked)
        here = f"{asked.base}{base}/packages/{asked.path['package']}"
        attributes = _head(asked, row) | {
            "profile": "flow-results-package",
            "flow_results_specification_version": "1.1.0",
            "id": asked.path["package"],
            "resources": [
                {
                    "name": f"{_head(asked, row)['name']}-responses",
                    "api_data_url": f"{here}/responses",
                    "access_method": "api",
                    "mediatype": _KIND,
                    "encoding": "utf-8",
                    "schema": _schema(instrument, _values(asked)),
                }
            ],
        }
        data = {"type": "packages", "id": asked.path["package"], "attributes": attributes}
        return _answer({"data": data, "links": {"self": here}})

    def responses(asked: Asked) -> Answer:
        return _responses(asked, base)

    def route(path: str, resource: Any) -> Route:
        return desk.route(base + path, resource, problem=floip_problem)

    return [
        route("/packages", packages),
        route("/packages/{package}", package),
        route("/packages/{package}/responses", responses),
    ]


# ---------------------------------------------------------------- packages


def _held(asked: Asked) -> Sequence[Any]:
    with reading(asked.material.engine) as db:
        return wave_rows(db)


def _id(asked: Asked, row: Any) -> str:
    """A UUID in the form of version 4, the same for this wave and questionnaire each time."""
    named = orjson.dumps(["flow-results", row.wave, row.instrument])
    return str(uuid.UUID(bytes=hmac.digest(asked.material.key, named, "sha256")[:16], version=4))


def _head(asked: Asked, row: Any) -> dict[str, Any]:
    began = _stamp(row.first)
    name = f"{row.wave}-{row.instrument}".lower().replace("@", "-")
    return {
        "name": "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name),
        "title": f"{row.wave}: {row.instrument}",
        "created": began,
        # A changed questionnaire is another package (the specification's first way), so this one's never is.
        "modified": began,
    }


def _found(asked: Asked) -> tuple[Any, Instrument]:
    """The wave and questionnaire of the package asked for. Raises Problem 404."""
    for row in _held(asked):
        if _id(asked, row) == asked.path["package"]:
            with reading(asked.material.engine) as db:
                instrument = stored_instrument(db, row.instrument)
            if instrument is not None:
                return row, instrument
    raise Problem(404, "No such package", "take an id from /api/v1/flow-results/packages")


def _values(asked: Asked) -> dict[str, str]:
    """What questions are filled in with: those of the first wave, as in exports."""
    wave = asked.material.wave
    return Values(wave.owner, wave.contact, wave.code).inserted()


def _schema(instrument: Instrument, values: Mapping[str, str]) -> dict[str, Any]:
    words = instrument.languages[instrument.default_language]
    return {
        "language": words.iso639_3,
        "fields": [{"name": n, "title": title, "type": kind} for n, title, kind in _FIELDS],
        "questions": {
            name: q for item in instrument.items for name, q in _questions(instrument, item, values)
        },
    }


def _questions(
    instrument: Instrument, item: Item, values: Mapping[str, str]
) -> list[tuple[str, dict[str, Any]]]:
    about: dict[str, Any] = {
        "label": wordings(instrument, item, values)[instrument.default_language],
        "semantic_labels": [x for x in (item.number, item.service, item.attribute, item.role) if x],
        "is_personal_information": bool(item.sensitive),
    }
    reasons = [n for n in NONRESPONSE if n in item.nonresponse]
    if item.kind == "number":
        numeric = {"type": "numeric", "type_options": {"range": [item.least, item.most]}, **about}
        why = {"type": "select_one", "type_options": {"choices": reasons}, **about}
        return [(item.id, numeric)] + ([(item.id + _NONRESPONSE, why)] if reasons else [])
    choices = [o.id for o in item.scale.options] if item.scale else []
    return [(item.id, {"type": "select_one", "type_options": {"choices": choices + reasons}, **about})]


# ---------------------------------------------------------------- rows


def _responses(asked: Asked, base: str) -> Answer:
    asked.only(
        "filter[max-version]", "filter[min-version]", "filter[start-timestamp]", "filter[end-timestamp]",
        "page[size]", "page[afterCursor]", "page[beforeCursor]",
    )  # fmt: skip
    row, instrument = _found(asked)
    size = asked.whole("page[size]", _PAGE, 1, _MOST)
    after, before = _key(asked, "page[afterCursor]"), _key(asked, "page[beforeCursor]")
    if after and before:
        raise bad("page[afterCursor]: give it or page[beforeCursor], not both")
    least, most = asked.moment("filter[min-version]"), asked.moment("filter[max-version]")
    wanted = Wanted(
        until=asked.material.until(), wave=row.wave, instrument=row.instrument,
        since=asked.moment("filter[start-timestamp]"), to=asked.moment("filter[end-timestamp]"),
    )  # fmt: skip
    found: list[Any] = []
    if (least is None or row.first >= least) and (most is None or row.first <= most):
        with reading(asked.material.engine) as db:
            found = response_page(db, wanted, before or after, size + 1, backwards=before is not None)
    more = len(found) > size
    shown = found[1:] if more and before else found[:size]
    rows = [_row(asked, instrument, r) for r in shown]
    path = f"{asked.base}{base}/packages/{asked.path['package']}"
    here = f"{path}/responses"

    def link(cursor: str, row_id: str) -> str:
        rest = {k: v for k, v in asked.params.items() if not k.endswith("Cursor]")}
        return f"{here}?{urlencode(rest | {cursor: row_id}, safe='[]', quote_via=quote)}"

    following = link("page[afterCursor]", rows[-1][1]) if rows and (more or before) else None
    preceding = link("page[beforeCursor]", rows[0][1]) if rows and (after or (before and more)) else None
    query = urlencode(asked.params, safe="[]", quote_via=quote)
    return _answer(
        {
            "data": {
                "type": "responses",
                "id": asked.path["package"],
                "attributes": {"responses": rows},
                "relationships": {
                    "descriptor": {"links": {"self": path}},
                    "links": {
                        "self": f"{here}?{query}" if query else here,
                        "next": following,
                        "previous": preceding,
                    },
                },
            }
        }
    )


def _row(asked: Asked, instrument: Instrument, r: Any) -> list[Any]:
    seal = asked.sealed.seal
    item = instrument.by_id.get(r.item)
    number = r.option == ""
    question = r.item + _NONRESPONSE if item is not None and item.kind == "number" and not number else r.item
    return [
        _stamp(r.given_at),
        seal(f"row|{r.given_at.isoformat()}|{r.interview}|{r.item}"),
        seal(r.respondent),
        # Never the aggregator's id: it knows the number behind each.
        seal(f"session|{r.interview}|{r.session}"),
        question,
        r.number if number else r.option,
        _metadata(r),
    ]


def _metadata(r: Any) -> Mapping[str, Any]:
    """What we know of the answering; beside what the specification names."""
    return {"seconds": r.seconds, "tries": r.tries, "mode": r.mode}


def _key(asked: Asked, name: str) -> tuple[datetime, str, str] | None:
    given = asked.params.get(name)
    if given is None:
        return None
    try:
        kind, at, interview, item = asked.sealed.open(given).split("|", 3)
        if kind == "row":
            return datetime.fromisoformat(at), interview, item
    except ValueError:
        pass
    raise bad(f"{name}: give the row_id of a row of this package")


def _stamp(at: datetime) -> str:
    """With its offset written out, never Z, as the specification wants."""
    return at.astimezone(UTC).isoformat()


def _answer(body: Mapping[str, Any]) -> Answer:
    return Answer(orjson.dumps(body), _KIND)
