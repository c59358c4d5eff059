"""The results API described: OpenAPI 3.1, made of plain data, with an example of every answer.

Tests hold it against the routes (each is here, and nothing else), its examples against its schemas, and live
answers against both.
"""

from collections.abc import Mapping
from typing import Any

from storage.analysis.dictionary import VARIANTS
from storage.analysis.exports.formats import EXPORTS

Json = dict[str, Any]

_ID = "qFYk1cC2m0dRk0Ql6Qy3S2qO5yYtq8nVx5w3rQ"
_PERSON = "zJ8oD2uGf6o1u0o1fJm0bR5Zb1c9jTq2b7nXw4LhVq0"


def _text(about: str, **more: Any) -> Json:
    return {"type": "string", "description": about, **more}


def _maybe(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


def _whole(about: str) -> Json:
    return {"type": "integer", "description": about}


def _real(about: str) -> Json:
    return {"type": "number", "description": about}


def _flag(about: str) -> Json:
    return {"type": "boolean", "description": about}


_AT = {"type": "string", "format": "date-time", "description": "UTC"}


def _object(properties: Mapping[str, Json], example: Json, optional: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [n for n in properties if n not in optional],
        "additionalProperties": False,
        "examples": [example],
    }


_ANSWER = {
    "option": _maybe(_text("The answer's stable id, or not_applicable, dont_know, refused; null: a number")),
    "code": _maybe(_whole("Its code; null: a number")),
    "number": _maybe(_whole("The number given")),
}

_SCHEMAS: dict[str, Json] = {
    "Problem": _object(
        {"title": _text("What is wrong"), "status": _whole("HTTP status"), "detail": _text("What to change")},
        {"title": "The request cannot be understood", "status": 400,
         "detail": "limit: give a whole number from 1 to 5000"},
    ),
    "Answer": _object(_ANSWER, {"option": "agree", "code": 2, "number": None}),
    "Wave": _object(
        {
            "wave": _text("Wave"),
            "release": _maybe(_whole("Newest version of its release; null: none yet")),
            "issued": _maybe(_text("Day of issue of that")),
            "instruments": {
                "type": "array",
                "description": "For tokens of scope rows",
                "items": {
                    "type": "object",
                    "properties": {"instrument": _text("id@version"), "interviews": _whole("Counted ones"),
                                   "first": _AT, "last": _AT},
                },
            },
        },
        {"wave": "pilot-2026", "release": 1, "issued": "2026-11-23"},
        optional=("instruments",),
    ),
    "Release": _object(
        {
            "wave": _text("Wave"), "version": _whole("1, 2, .."), "issued": _text("Day of issue"),
            "reason": _text("Why this version"), "title": _text("Title"), "instrument": _text("id@version"),
            "owner": _text("Who publishes"), "contact": _text("Whom to ask"),
            "licence": _text("Address of the licence"), "weighted": _flag("Weighted to the population"),
            "probability_sample": _flag("From a drawn sample"),
            "caution": _text("Has to stand beside every figure"),
            "interviews": _whole("That the figures rest on"), "software": _text("Version of the software"),
        },
        {"wave": "pilot-2026", "version": 1, "issued": "2026-11-23", "reason": "First version.",
         "title": "SDG indicator 16.6.2", "instrument": "sdg_16_6_2@2026.1", "owner": "Statistical office",
         "contact": "0800 000 000", "licence": "https://creativecommons.org/licenses/by/4.0/",
         "weighted": False, "probability_sample": False,
         "caution": "Unweighted: describes those who answered.", "interviews": 1200, "software": "0.1.0"},
    ),
    "Estimate": _object(
        {
            "wave": _text("Wave"), "version": _whole("Of the release"), "position": _whole("In the release"),
            "newest": _flag("Of the newest version of its wave"), "issued": _text("Day of issue"),
            "period": _text("Year"), "service": _text("Public service"),
            "measure": _text("overall, attributes (the mean of the five), or the item of one"),
            "variable": _text("Broken down by; empty: national"), "category": _text("Category of that"),
            "variable_2": _text("Crossed with"), "category_2": _text("Category of that"),
            "n": _maybe(_whole("Respondents, rounded")),
            "share": _maybe(_real("Of positive answers, 0 to 1; null: hidden")),
            "se": _maybe(_real("Standard error")), "low": _maybe(_real("95 % interval, lower end")),
            "high": _maybe(_real("95 % interval, upper end")),
            **{n: _maybe(_whole("Answers that left the base")) for n in
               ("not_applicable", "dont_know", "refused", "not_reached")},
            "mark": _text("Empty: shown; c, u: hidden; *: under review", enum=["", "c", "u", "*"]),
            "notes": _text("What to know of it"), "weighted": _flag("Weighted to the population"),
            "probability_sample": _flag("From a drawn sample"),
            "caution": _text("Has to stand beside the figure"),
        },
        {"wave": "pilot-2026", "version": 1, "position": 0, "newest": True, "issued": "2026-11-23",
         "period": "2026", "service": "health", "measure": "overall", "variable": "", "category": "",
         "variable_2": "", "category_2": "", "n": 1200, "share": 0.612, "se": 0.014, "low": 0.584,
         "high": 0.64, "not_applicable": 0, "dont_know": 25, "refused": 5, "not_reached": 40, "mark": "",
         "notes": "unweighted; modelled as if", "weighted": False, "probability_sample": False,
         "caution": "Unweighted: describes those who answered."},
    ),
    "Code": _object(
        {
            "instrument": _text("id@version"), "item": _text("Item"),
            "code_position": _whole("Order of the code; -1: an item without codes"),
            "position": _whole("The item's place in the questionnaire"),
            "variable": _text("Its column in answer_wide"), "question": _text("Official number"),
            "block": _text("Block"), "kind": _text("choice or number"), "role": _text("What it is for"),
            "service": _text("Service"), "attribute": _text("Attribute"), "item_label": _text("In words"),
            "option": _maybe(_text("The answer's stable id")), "code": _maybe(_whole("Its code")),
            "option_label": _maybe(_text("In words")), "iso": _maybe(_text("Of a place, ISO 3166-2")),
            "nonresponse": _flag("It is no answer"),
        },
        {"instrument": "sdg_16_6_2@2026.1", "item": "health.overall", "code_position": 0, "position": 9,
         "variable": "health_overall", "question": "1.6", "block": "health", "kind": "choice",
         "role": "overall", "service": "health", "attribute": "", "item_label": "Overall satisfaction",
         "option": "very_satisfied", "code": 3, "option_label": "Very satisfied", "iso": None,
         "nonresponse": False},
    ),
    "Interview": _object(
        {
            "id": _text("Interview, by an id of your token's own"),
            "respondent": _text("Respondent, likewise"), "wave": _text("Wave"),
            "attempt": _whole("1, 2, .. of the respondent's in the wave"),
            "counted": _flag("The one that results are made of"),
            "instrument": _maybe(_text("id@version")), "language": _maybe(_text("Language")),
            "mode": _maybe(_text("ussd or sms")),
            "aggregator": _maybe(_text("simulator: made up, nobody dialled")),
            "disposition": _text("How it stands"), "began_at": _AT, "last_at": _AT, "ended_at": _maybe(_AT),
            "answers": {"type": "object", "description": "Item -> answer",
                        "additionalProperties": {"$ref": "#/components/schemas/Answer"}},
        },
        {"id": _ID, "respondent": _PERSON, "wave": "pilot-2026", "attempt": 1, "counted": True,
         "instrument": "sdg_16_6_2@2026.1", "language": "en", "mode": "ussd", "aggregator": "africastalking",
         "disposition": "complete", "began_at": "2026-11-23T08:00:00.123000+00:00",
         "last_at": "2026-11-23T08:04:11.500000+00:00", "ended_at": "2026-11-23T08:04:11.500000+00:00",
         "answers": {"respondent.age": {"option": None, "code": None, "number": 34},
                     "health.overall": {"option": "dont_know", "code": 98, "number": None}}},
    ),
    "Response": _object(
        {
            "interview": _text("Interview, by an id of your token's own"), "respondent": _text("Likewise"),
            "wave": _text("Wave"), "instrument": _maybe(_text("id@version")),
            "counted": _flag("Of the interview that results are made of"), "item": _text("Item"),
            **_ANSWER, "given_at": _AT, "seconds": _maybe(_real("From screen to answer")),
            "tries": _maybe(_whole("Keys that it took")), "mode": _text("ussd or sms"),
        },
        {"interview": _ID, "respondent": _PERSON, "wave": "pilot-2026", "instrument": "sdg_16_6_2@2026.1",
         "counted": True, "item": "health.overall", "option": "satisfied", "code": 2, "number": None,
         "given_at": "2026-11-23T08:01:07.250000+00:00", "seconds": 6.4, "tries": 1, "mode": "ussd"},
    ),
    "ExportAsked": {
        **_object(
            {
                "variant": _text("For whom", enum=list(VARIANTS)),
                "formats": {"type": "array", "items": _text("Format", enum=list(EXPORTS)), "minItems": 1},
                "wave": _text("One wave; without it all"), "language": _text("Of the labels"),
                "excel": _flag("CSV with the mark by which Excel knows UTF-8"),
                "simulated": _flag("With interviews that nobody dialled for"),
                "purpose": _text("Your exports with the same one have the same ids"),
            },
            {"variant": "scientific", "formats": ["csv", "parquet"], "wave": "pilot-2026"},
        ),
        "required": [],
    },
    "Export": _object(
        {
            "id": _text("Export"),
            "state": _text("How it stands", enum=["waiting", "running", "done", "failed", "expired"]),
            "step": _maybe(_text("What is being made")), "done": _whole("Of that"),
            "total": _whole("Of that"),
            "rows": _maybe(_whole("Interviews in it")), "sha256": _maybe(_text("Of the archive")),
            "expires_at": _maybe(_AT), "error": _maybe(_text("Why it failed")),
            "file": _maybe(_text("Where it is fetched, once done")),
        },
        {"id": "3f0c9a52b7d84c3f9d6f0a6b1f7f2c11", "state": "running", "step": "wide.csv", "done": 4000,
         "total": 12000, "rows": None, "sha256": None, "expires_at": "2026-12-07T08:00:00+00:00",
         "error": None, "file": None},
    ),
}  # fmt: skip


def _page(schema: str) -> Json:
    row = _SCHEMAS[schema]["examples"][0]
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}},
            "next": _maybe(_text("Where the next page is; null: this is the last one for now")),
            "cursor": _maybe(_text("To ask later for what has come since")),
        },
        "required": ["data", "next", "cursor"],
        "additionalProperties": False,
        "examples": [{"data": [row], "next": None, "cursor": "k3Vd0Zb1c9jTq2b7nXw4LhVq0"}],
    }


def _list(schema: str) -> Json:
    return {
        "type": "object",
        "properties": {"data": {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}},
        "required": ["data"],
        "additionalProperties": False,
        "examples": [{"data": [_SCHEMAS[schema]["examples"][0]]}],
    }


_PARAMETERS: dict[str, tuple[str, Json]] = {
    "wave": ("One wave", {"type": "string"}),
    "instrument": ("One version of the questionnaire, id@version", {"type": "string"}),
    "disposition": ("complete, partial, ..", {"type": "string"}),
    "item": ("One item", {"type": "string"}),
    "counted": ("all: interviews that do not count too", {"type": "string", "enum": ["yes", "all"]}),
    "since": ("After this moment", {"type": "string"}),
    "to": ("Up to this moment", {"type": "string"}),
    "limit": ("Rows of a page", {"type": "integer", "minimum": 1, "maximum": 5000, "default": 500}),
    "cursor": ("From the page before", {"type": "string"}),
    "version": ("A number, all, or newest", {"type": "string", "default": "newest"}),
    **{n: (f"One {n.replace('_', ' ')}", {"type": "string"}) for n in
       ("period", "service", "measure", "variable", "category", "variable_2", "category_2")},
    "$select": ("Columns", {"type": "string"}), "$filter": ("eq ne gt ge lt le and or", {"type": "string"}),
    "$top": ("At most so many rows", {"type": "integer"}), "$skip": ("Rows left out", {"type": "integer"}),
    "$count": ("true: with @odata.count", {"type": "string", "enum": ["true", "false"]}),
    "$skiptoken": ("From @odata.nextLink", {"type": "string"}), "$format": ("json", {"type": "string"}),
    "filter[max-version]": ("Package version up to", {"type": "string"}),
    "filter[min-version]": ("Package version from", {"type": "string"}),
    "filter[start-timestamp]": ("After this moment", {"type": "string"}),
    "filter[end-timestamp]": ("Up to this moment", {"type": "string"}),
    "page[size]": ("Rows of a page", {"type": "integer", "maximum": 5000, "default": 1000}),
    "page[afterCursor]": ("Rows after the one with this row_id", {"type": "string"}),
    "page[beforeCursor]": ("Rows before it", {"type": "string"}),
}  # fmt: skip
_ANYTHING = {"type": "object"}


def _get(
    summary: str, scope: str, schema: Json, *parameters: str, kind: str = "application/json",
    about: str = "",
) -> Json:  # fmt: skip
    example = schema.get("examples", [None])[0]
    content: Json = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {
        "summary": summary,
        "description": f"{about} Scope: {scope}.".strip(),
        "parameters": [
            {"name": n, "in": "query", "description": _PARAMETERS[n][0], "schema": _PARAMETERS[n][1]}
            for n in parameters
        ],
        "responses": {
            "200": {"description": "Found", "headers": {"ETag": {"schema": {"type": "string"}}},
                    "content": {kind: content}},
            "304": {"description": "As before, by If-None-Match"},
            **_problems(),
        },
    }  # fmt: skip


def _problems() -> Json:
    content = {
        "application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": _SCHEMAS["Problem"]["examples"][0],
        }
    }
    told = {
        "400": "Not understood", "401": "No valid token", "403": "Not with this token", "404": "Not there",
        "429": "Too often: see Retry-After", "503": "The record is away: see Retry-After",
    }  # fmt: skip
    return {status: {"description": what, "content": content} for status, what in told.items()}


def _exports() -> dict[str, Json]:
    export = {"$ref": "#/components/schemas/Export"}
    example = _SCHEMAS["Export"]["examples"][0]
    asked = {
        "schema": {"$ref": "#/components/schemas/ExportAsked"},
        "example": _SCHEMAS["ExportAsked"]["examples"][0],
    }
    in_path = [{"name": "export", "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        "/api/v1/exports": {
            "post": {
                "summary": "Have an export made",
                "description": "A worker makes it; every export is written down for good. Scope: rows.",
                "requestBody": {"content": {"application/json": asked}},
                "responses": {
                    "202": {"description": "Asked for",
                            "headers": {"Location": {"schema": {"type": "string"}}},
                            "content": {"application/json": {"schema": export, "example": example}}},
                    **_problems(),
                },
            }
        },
        "/api/v1/exports/{export}": {
            "parameters": in_path,
            "get": _get("How an export stands", "rows", {**export, "examples": [example]}),
        },
        "/api/v1/exports/{export}/file": {
            "parameters": in_path,
            "get": {
                "summary": "Fetch the archive",
                "description": "Range and If-Range resume a download. Scope: rows.",
                "responses": {
                    "200": {"description": "All of it", "content": {"application/zip": {}}},
                    "206": {"description": "The part asked for", "content": {"application/zip": {}}},
                    "409": {"description": "Not made yet"},
                    "410": {"description": "Expired, or failed"},
                    "416": {"description": "No such part"},
                    **_problems(),
                },
            },
        },
    }  # fmt: skip


def _paths() -> dict[str, Json]:
    odata, floip = "/api/v1/odata", "/api/v1/flow-results/packages"
    query = ("$select", "$filter", "$top", "$skip", "$count", "$skiptoken", "$format")
    floip_kind = "application/vnd.api+json"
    of_set = [{"name": "set", "in": "path", "required": True, "schema": {"type": "string"}}]
    of_package = [{"name": "package", "in": "path", "required": True, "schema": {"type": "string"}}]
    rows = ("since", "to", "limit", "cursor")
    xml, plain = {"type": "string"}, {"type": "string"}
    return {
        "/api/v1/openapi.json": {"get": {**_get("This description", "none", _ANYTHING), "security": []}},
        "/api/v1/waves": {"get": _get("Waves", "estimates", _list("Wave"))},
        "/api/v1/releases": {"get": _get("What is published", "estimates", _list("Release"), "wave")},
        "/api/v1/estimates": {
            "get": _get(
                "Published figures", "estimates", _page("Estimate"), "wave", "version", "period", "service",
                "measure", "variable", "category", "variable_2", "category_2", "limit", "cursor",
                about="After the rules for disclosure and display. Of each wave's newest version, if no"
                      " version is asked for.",
            )
        },
        "/api/v1/codebook": {
            "get": _get("What codes mean", "estimates", _list("Code"), "instrument", "item")
        },
        "/api/v1/interviews": {
            "get": _get(
                "Interviews", "rows", _page("Interview"), "wave", "instrument", "disposition", "counted",
                *rows, about="In the order of their last hop. One that goes on comes again.",
            )
        },
        "/api/v1/responses": {
            "get": _get(
                "Answers", "rows", _page("Response"), "wave", "instrument", "item", "counted", *rows,
                about="In the order of answering. One that was changed comes again.",
            )
        },
        **_exports(),
        odata: {"get": _get("OData service document", "estimates", _ANYTHING, "$format")},
        f"{odata}/": {"get": _get("The same", "estimates", _ANYTHING, "$format")},
        f"{odata}/$metadata": {
            "get": _get("OData metadata (CSDL)", "estimates", xml, "$format", kind="application/xml")
        },
        f"{odata}/{{set}}": {
            "parameters": of_set,
            "get": _get("Rows of a view", "estimates or rows", _ANYTHING, *query),
        },
        f"{odata}/{{set}}/$count": {
            "parameters": of_set,
            "get": _get("How many", "estimates or rows", plain, "$filter", kind="text/plain"),
        },
        floip: {"get": _get("Flow Results packages", "rows", _ANYTHING, kind=floip_kind)},
        f"{floip}/{{package}}": {
            "parameters": of_package,
            "get": _get("A package's descriptor", "rows", _ANYTHING, kind=floip_kind),
        },
        f"{floip}/{{package}}/responses": {
            "parameters": of_package,
            "get": _get(
                "A package's rows", "rows", _ANYTHING, "filter[max-version]", "filter[min-version]",
                "filter[start-timestamp]", "filter[end-timestamp]", "page[size]", "page[afterCursor]",
                "page[beforeCursor]", kind=floip_kind,
            ),
        },
    }  # fmt: skip


def describe() -> Json:
    """The whole description, as JSON would have it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dial 16: results",
            "version": "1",
            "description": "Published figures; interviews and answers under ids of your token's own.",
        },
        "security": [{"bearer": []}, {"basic": []}],
        "paths": _paths(),
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic",
                          "description": "The token is the password; any name will do."},
            },
        },
    }  # fmt: skip
