"""What the results API's bodies hold, as JSON Schema: each with its columns in words and an example."""

from collections.abc import Mapping
from typing import Any

from storage.analysis.dictionary import VARIANTS
from storage.analysis.exports.formats import EXPORTS

Json = dict[str, Any]

_ID = "qFYk1cC2m0dRk0Ql6Qy3S2qO5yYtq8nVx5w3rQ"
_PERSON = "zJ8oD2uGf6o1u0o1fJm0bR5Zb1c9jTq2b7nXw4LhVq0"


def text(about: str, **more: Any) -> Json:
    return {"type": "string", "description": about, **more}


def maybe(schema: Json) -> Json:
    return {**schema, "type": [schema["type"], "null"]}


def _whole(about: str) -> Json:
    return {"type": "integer", "description": about}


def _real(about: str) -> Json:
    return {"type": "number", "description": about}


def _flag(about: str) -> Json:
    return {"type": "boolean", "description": about}


_AT = {"type": "string", "format": "date-time", "description": "UTC"}


def _object(
    properties: Mapping[str, Json], example: Json | None = None, optional: tuple[str, ...] = ()
) -> Json:
    schema: Json = {
        "type": "object",
        "properties": dict(properties),
        "required": [n for n in properties if n not in optional],
        "additionalProperties": False,
    }
    return schema if example is None else schema | {"examples": [example]}


_ANSWER = {
    "option": maybe(text("The answer's stable id, or not_applicable, dont_know, refused; null: a number")),
    "code": maybe(_whole("Its code; null: a number")),
    "number": maybe(_whole("The number given")),
}

_FIGURE = {
    "variable": text("Broken down by; empty: national"), "category": text("Category of that"),
    "variable_2": text("Crossed with"), "category_2": text("Category of that"),
    "n": maybe(_whole("Respondents, rounded")),
    "share": maybe(_real("Of positive answers, 0 to 1; null: hidden")),
    "se": maybe(_real("Standard error")), "low": maybe(_real("95 % interval, lower end")),
    "high": maybe(_real("95 % interval, upper end")),
    **{n: maybe(_whole("Answers that left the base")) for n in
       ("not_applicable", "dont_know", "refused", "not_reached")},
    "mark": text("Empty: shown; c, u: hidden; *: under review", enum=["", "c", "u", "*"]),
    "notes": text("What to know of it"),
}  # fmt: skip

_QUERY: dict[str, Json] = {
    "id": text("Query"), "asked_at": _AT, "wave": text("Wave"), "service": text("Service"),
    "measure": text("Measure"),
    "variables": {"type": "array", "items": text("Variable"), "description": "Broken down by"},
    "state": text("How it stands", enum=["waiting", "running", "done", "refused", "failed"]),
    "shown": maybe(_whole("Figures")), "hidden": maybe(_whole("Figures")),
    "error": maybe(text("Why it was refused or failed, and what to ask instead")),
}  # fmt: skip

SCHEMAS: dict[str, Json] = {
    "Problem": _object(
        {"title": text("What is wrong"), "status": _whole("HTTP status"), "detail": text("What to change")},
        {"title": "The request cannot be understood", "status": 400,
         "detail": "limit: give a whole number from 1 to 5000"},
    ),
    "Answer": _object(_ANSWER, {"option": "agree", "code": 2, "number": None}),
    "Wave": _object(
        {
            "wave": text("Wave"),
            "release": maybe(_whole("Newest version of its release; null: none yet")),
            "issued": maybe(text("Day of issue of that")),
            "instruments": {
                "type": "array",
                "description": "For tokens of scope rows",
                "items": {
                    "type": "object",
                    "properties": {"instrument": text("id@version"), "interviews": _whole("Counted ones"),
                                   "first": _AT, "last": _AT},
                },
            },
        },
        {"wave": "pilot-2026", "release": 1, "issued": "2026-11-23"},
        optional=("instruments",),
    ),
    "Release": _object(
        {
            "wave": text("Wave"), "version": _whole("1, 2, .."), "issued": text("Day of issue"),
            "reason": text("Why this version"), "title": text("Title"), "instrument": text("id@version"),
            "owner": text("Who publishes"), "contact": text("Whom to ask"),
            "licence": text("Address of the licence"), "weighted": _flag("Weighted to the population"),
            "probability_sample": _flag("From a drawn sample"),
            "caution": text("Has to stand beside every figure"),
            "interviews": _whole("That the figures rest on"), "software": text("Version of the software"),
        },
        {"wave": "pilot-2026", "version": 1, "issued": "2026-11-23", "reason": "First version.",
         "title": "SDG indicator 16.6.2", "instrument": "sdg_16_6_2@2026.1", "owner": "Statistical office",
         "contact": "0800 000 000", "licence": "https://creativecommons.org/licenses/by/4.0/",
         "weighted": False, "probability_sample": False,
         "caution": "Unweighted: describes those who answered.", "interviews": 1200, "software": "0.1.0"},
    ),
    "Estimate": _object(
        {
            "wave": text("Wave"), "version": _whole("Of the release"), "position": _whole("In the release"),
            "newest": _flag("Of the newest version of its wave"), "issued": text("Day of issue"),
            "period": text("Year"), "service": text("Public service"),
            "measure": text("overall, attributes (the mean of the five), or the item of one"),
            **_FIGURE, "weighted": _flag("Weighted to the population"),
            "probability_sample": _flag("From a drawn sample"),
            "caution": text("Has to stand beside the figure"),
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
            "instrument": text("id@version"), "item": text("Item"),
            "code_position": _whole("Order of the code; -1: an item without codes"),
            "position": _whole("The item's place in the questionnaire"),
            "variable": text("Its column in answer_wide"), "question": text("Official number"),
            "block": text("Block"), "kind": text("choice or number"), "role": text("What it is for"),
            "service": text("Service"), "attribute": text("Attribute"), "item_label": text("In words"),
            "option": maybe(text("The answer's stable id")), "code": maybe(_whole("Its code")),
            "option_label": maybe(text("In words")), "iso": maybe(text("Of a place, ISO 3166-2")),
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
            "id": text("Interview, by an id of your token's own"),
            "respondent": text("Respondent, likewise"), "wave": text("Wave"),
            "attempt": _whole("1, 2, .. of the respondent's in the wave"),
            "counted": _flag("The one that results are made of"),
            "instrument": maybe(text("id@version")), "language": maybe(text("Language")),
            "mode": maybe(text("ussd or sms")),
            "aggregator": maybe(text("simulator: made up, nobody dialled")),
            "disposition": text("How it stands"), "began_at": _AT, "last_at": _AT, "ended_at": maybe(_AT),
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
            "interview": text("Interview, by an id of your token's own"), "respondent": text("Likewise"),
            "wave": text("Wave"), "instrument": maybe(text("id@version")),
            "counted": _flag("Of the interview that results are made of"), "item": text("Item"),
            **_ANSWER, "given_at": _AT, "seconds": maybe(_real("From screen to answer")),
            "tries": maybe(_whole("Keys that it took")), "mode": text("ussd or sms"),
        },
        {"interview": _ID, "respondent": _PERSON, "wave": "pilot-2026", "instrument": "sdg_16_6_2@2026.1",
         "counted": True, "item": "health.overall", "option": "satisfied", "code": 2, "number": None,
         "given_at": "2026-11-23T08:01:07.250000+00:00", "seconds": 6.4, "tries": 1, "mode": "ussd"},
    ),
    "Figure": _object(
        _FIGURE,
        {"variable": "sex", "category": "female", "variable_2": "residence", "category_2": "rural", "n": 310,
         "share": 0.587, "se": 0.028, "low": 0.531, "high": 0.641, "not_applicable": 0, "dont_know": 5,
         "refused": 0, "not_reached": 10, "mark": "", "notes": "unweighted; modelled as if"},
    ),
    "QueryAsked": _object(
            {
                "wave": text("A wave with a release"), "service": text("A service of the release"),
                "measure": text("overall, attributes, or an item, as in the release"),
                "variables": {"type": "array", "items": text("A variable of the release"), "maxItems": 2,
                              "uniqueItems": True, "description": "What to break down by; none: national"},
            },
            {"wave": "pilot-2026", "service": "health", "measure": "overall",
             "variables": ["sex", "residence"]},
            optional=("variables",),
    ),
    "QueryListed": _object(
        _QUERY,
        {"id": "3f0c9a52b7d84c3f9d6f0a6b1f7f2c11", "asked_at": "2026-11-23T08:00:00.123000+00:00",
         "wave": "pilot-2026", "service": "health", "measure": "overall", "variables": ["sex", "residence"],
         "state": "refused", "shown": None, "hidden": None,
         "error": "the record has changed since version 1 was issued; ask again after the next version"},
    ),
    "Query": _object(
        {
            **_QUERY, "version": maybe(_whole("Of the release that it was protected with")),
            "caution": maybe(text("Has to stand beside every figure")),
            "figures": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/Figure"},
                        "description": "Once done"},
        },
        {"id": "3f0c9a52b7d84c3f9d6f0a6b1f7f2c11", "asked_at": "2026-11-23T08:00:00.123000+00:00",
         "wave": "pilot-2026", "service": "health", "measure": "overall", "variables": ["sex", "residence"],
         "state": "done", "shown": 4, "hidden": 0, "error": None, "version": 1,
         "caution": "Unweighted: describes those who answered.", "figures": [
             {"variable": "sex", "category": "female", "variable_2": "residence", "category_2": "rural",
              "n": 310, "share": 0.587, "se": 0.028, "low": 0.531, "high": 0.641, "not_applicable": 0,
              "dont_know": 5, "refused": 0, "not_reached": 10, "mark": "",
              "notes": "unweighted; modelled as if"}]},
    ),
    "ExportAsked": {
        **_object(
            {
                "variant": text("For whom", enum=list(VARIANTS)),
                "formats": {"type": "array", "items": text("Format", enum=list(EXPORTS)), "minItems": 1},
                "wave": text("One wave; without it all"), "language": text("Of the labels"),
                "excel": _flag("CSV with the mark by which Excel knows UTF-8"),
                "simulated": _flag("With interviews that nobody dialled for"),
                "purpose": text("Your exports with the same one have the same ids"),
            },
            {"variant": "scientific", "formats": ["csv", "parquet"], "wave": "pilot-2026"},
        ),
        "required": [],
    },
    "ExportListed": _object(
        {
            "id": text("Export"), "asked_at": _AT, "variant": text("For whom"),
            "formats": {"type": "array", "items": text("Format")},
            "wave": maybe(text("One wave; null: all")),
            "state": text("How it stands", enum=["waiting", "running", "done", "failed", "expired"]),
            "rows": maybe(_whole("Interviews in it")), "expires_at": maybe(_AT),
            "error": maybe(text("Why it failed")), "fetches": _whole("Times that the archive was sent"),
            "fetched_at": maybe(_AT), "file": maybe(text("Where it is fetched, once done")),
        },
        {"id": "3f0c9a52b7d84c3f9d6f0a6b1f7f2c11", "asked_at": "2026-11-23T08:00:00+00:00",
         "variant": "scientific", "formats": ["csv", "parquet"], "wave": "pilot-2026", "state": "done",
         "rows": 12000, "expires_at": "2026-12-07T08:00:00+00:00", "error": None, "fetches": 1,
         "fetched_at": "2026-11-23T09:12:44+00:00",
         "file": "/api/v1/exports/3f0c9a52b7d84c3f9d6f0a6b1f7f2c11/file"},
    ),
    "Export": _object(
        {
            "id": text("Export"),
            "state": text("How it stands", enum=["waiting", "running", "done", "failed", "expired"]),
            "step": maybe(text("What is being made")), "done": _whole("Of that"),
            "total": _whole("Of that"),
            "rows": maybe(_whole("Interviews in it")), "sha256": maybe(text("Of the archive")),
            "expires_at": maybe(_AT), "error": maybe(text("Why it failed")),
            "file": maybe(text("Where it is fetched, once done")),
        },
        {"id": "3f0c9a52b7d84c3f9d6f0a6b1f7f2c11", "state": "running", "step": "wide.csv", "done": 4000,
         "total": 12000, "rows": None, "sha256": None, "expires_at": "2026-12-07T08:00:00+00:00",
         "error": None, "file": None},
    ),
}  # fmt: skip


_HOST = "https://results.example/api/v1"
_PACKAGE = "40a7bd00-f656-41db-9217-24cbc55df7f0"
_PACKAGES = f"{_HOST}/flow-results/packages"
_HEAD: dict[str, Json] = {
    "name": text("wave and questionnaire"), "title": text("The same in words"), "created": _AT,
    "modified": _AT,
}  # fmt: skip
_HEAD_EXAMPLE = {
    "name": "pilot-2026-sdg_16_6_2-2026.1", "title": "pilot-2026: sdg_16_6_2@2026.1",
    "created": "2026-11-23T08:00:00+00:00", "modified": "2026-11-23T08:00:00+00:00",
}  # fmt: skip
_LINK = maybe(text("Address; null: none"))


def _links(*names: str) -> Json:
    return {"type": "object", "properties": dict.fromkeys(names, _LINK), "required": list(names)}


def _resource(kind: str, attributes: Mapping[str, Json], **more: Json) -> Json:
    named = {"type": text("JSON:API", const=kind), "id": text("Package, a UUID")}
    return _object({**named, "attributes": _object(attributes), **more})


def _listed(row: Json) -> Json:
    return {"type": "array", "items": row}


#: Of the families with a form of their own: OData 4.0 (JSON 4.0), FLOIP Flow Results 1.1 (JSON:API).
FAMILIES: dict[str, Json] = {
    "ODataService": _object(
        {"@odata.context": text("Address of the metadata"),
         "value": _listed(_object({"name": text("Set"), "kind": text("EntitySet"), "url": text("Set")}))},
        {"@odata.context": f"{_HOST}/odata/$metadata",
         "value": [{"name": "estimate", "kind": "EntitySet", "url": "estimate"}]},
    ),
    "ODataMetadata": {
        **text("CSDL: every set, its columns and what they are"),
        "examples": ['<?xml version="1.0" encoding="utf-8"?>\n<edmx:Edmx Version="4.0" ..>..</edmx:Edmx>\n'],
    },
    "ODataRows": _object(
        {"@odata.context": text("Address of the set's metadata"), "@odata.count": _whole("Rows in all"),
         "value": _listed({"type": "object", "description": "Columns of the set"}),
         "@odata.nextLink": text("Where the next page is")},
        {"@odata.context": f"{_HOST}/odata/$metadata#estimate(wave,service,share)", "@odata.count": 2184,
         "value": [{"wave": "pilot-2026", "service": "health", "share": 0.612}],
         "@odata.nextLink": f"{_HOST}/odata/estimate?$select=wave%2Cservice%2Cshare&$skiptoken=k3Vd0Zb1c9jT"},
        optional=("@odata.count", "@odata.nextLink"),
    ),
    "ODataCount": {**text("How many rows, in digits"), "pattern": r"^\d+$", "examples": ["2184"]},
    "FlowPackages": _object(
        {"data": _listed(_resource("packages", _HEAD, links=_links("self"))),
         "links": _links("self", "next", "previous")},
        {"data": [{"type": "packages", "id": _PACKAGE, "attributes": _HEAD_EXAMPLE,
                   "links": {"self": f"{_PACKAGES}/{_PACKAGE}"}}],
         "links": {"self": _PACKAGES, "next": None, "previous": None}},
    ),
    "FlowPackage": _object(
        {"data": _resource(
            "packages",
            {**_HEAD, "profile": text("flow-results-package"),
             "flow_results_specification_version": text("1.1.0"), "id": text("Package"),
             "resources": _listed(_object(
                 {"name": text("Of the rows"), "api_data_url": text("Where the rows are"),
                  "access_method": text("api"), "mediatype": text("JSON:API"), "encoding": text("utf-8"),
                  "schema": _object(
                      {"language": text("ISO 639-3"), "fields": _listed({"type": "object"}),
                       "questions": {"type": "object", "additionalProperties": {"type": "object"}}})}))}),
         "links": _links("self")},
        {"data": {"type": "packages", "id": _PACKAGE, "attributes": {
            **_HEAD_EXAMPLE, "profile": "flow-results-package",
            "flow_results_specification_version": "1.1.0", "id": _PACKAGE,
            "resources": [{
                "name": f"{_HEAD_EXAMPLE['name']}-responses",
                "api_data_url": f"{_PACKAGES}/{_PACKAGE}/responses", "access_method": "api",
                "mediatype": "application/vnd.api+json", "encoding": "utf-8",
                "schema": {
                    "language": "eng", "fields": [{"name": "row_id", "title": "Row ID", "type": "string"}],
                    "questions": {"health.overall": {
                        "type": "select_one", "type_options": {"choices": ["very_satisfied", "satisfied"]},
                        "label": "Overall, how satisfied were you?",
                        "semantic_labels": ["1.6", "health", "overall"], "is_personal_information": False,
                    }}}}]}},
         "links": {"self": f"{_PACKAGES}/{_PACKAGE}"}},
    ),
    "FlowResponses": _object(
        {"data": _resource(
            "responses",
            {"responses": _listed({
                "type": "array", "minItems": 7, "maxItems": 7,
                "description": "The seven fields of the schema: time, row, contact, session, question,"
                " response, and what is known of the answering"})},
            relationships=_object(
                {"descriptor": _object({"links": _links("self")}),
                 "links": _links("self", "next", "previous")}))},
        {"data": {"type": "responses", "id": _PACKAGE, "attributes": {"responses": [
            ["2026-11-23T08:01:07.250000+00:00", _ID, _PERSON, "lrUEmH5q0m6Ty3b1TgNhb3ry8ii",
             "health.overall", "satisfied", {"seconds": 6.4, "tries": 1, "mode": "ussd"}]]},
            "relationships": {
                "descriptor": {"links": {"self": f"{_PACKAGES}/{_PACKAGE}"}},
                "links": {"self": f"{_PACKAGES}/{_PACKAGE}/responses?page[size]=1",
                          "next": f"{_PACKAGES}/{_PACKAGE}/responses?page[size]=1&page[afterCursor]={_ID}",
                          "previous": None}}}},
    ),
    "ODataError": _object(
        {"error": _object({"code": text("HTTP status"), "message": text("What is wrong, what to change")})},
        {"error": {"code": "404", "message": "No such set: known are estimate, codebook"}},
    ),
    "FlowErrors": _object(
        {"errors": _listed(_object(
            {"status": text("HTTP status"), "title": text("What is wrong"),
             "detail": text("What to change")}))},
        {"errors": [{"status": "404", "title": "No such package",
                     "detail": "take an id from /api/v1/flow-results/packages"}]},
    ),
}  # fmt: skip


def page_of(schema: str) -> Json:
    row = SCHEMAS[schema]["examples"][0]
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}},
            "next": maybe(text("Where the next page is; null: this is the last one for now")),
            "cursor": maybe(text("To ask later for what has come since; null: read the whole again")),
        },
        "required": ["data", "next", "cursor"],
        "additionalProperties": False,
        "examples": [{"data": [row], "next": None, "cursor": "k3Vd0Zb1c9jTq2b7nXw4LhVq0"}],
    }


def list_of(schema: str) -> Json:
    return {
        "type": "object",
        "properties": {"data": {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}},
        "required": ["data"],
        "additionalProperties": False,
        "examples": [{"data": [SCHEMAS[schema]["examples"][0]]}],
    }
