"""The results API described: OpenAPI 3.1, made of plain data, with an example of every answer but archives.

Paths and parameters; what bodies hold stands in `api_schemas`.

Tests hold it against the routes (each is here, and nothing else), its examples against its schemas, and live
answers against both.
"""

from gateway.api_schemas import FAMILIES, SCHEMAS, Json, list_of, page_of

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
#: Where errors have another form: kind, schema.
_ERRORS = {
    "/api/v1/odata": ("application/json", FAMILIES["ODataError"]),
    "/api/v1/flow-results": ("application/vnd.api+json", FAMILIES["FlowErrors"]),
}
_DESCRIBED: Json = {
    "type": "object",
    "description": "OpenAPI 3.1",
    "required": ["openapi", "info", "paths"],
    "examples": [{"openapi": "3.1.0", "info": {"title": "Dial 16: results", "version": "1"}, "paths": {}}],
}


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


def _problem(told: str) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"schema": schema, "example": SCHEMAS["Problem"]["examples"][0]}
    return {"description": told, "content": {"application/problem+json": content}}


def _problems() -> Json:
    told = {
        "400": "Not understood", "401": "No valid token", "403": "Not with this token", "404": "Not there",
        "429": "Too often: see Retry-After", "503": "The record or the queue is away: see Retry-After",
    }  # fmt: skip
    return {status: _problem(what) for status, what in told.items()}


def _exports() -> dict[str, Json]:
    export = {"$ref": "#/components/schemas/Export"}
    example = SCHEMAS["Export"]["examples"][0]
    asked = {
        "schema": {"$ref": "#/components/schemas/ExportAsked"},
        "example": SCHEMAS["ExportAsked"]["examples"][0],
    }
    in_path = [{"name": "export", "in": "path", "required": True, "schema": {"type": "string"}}]
    archive = {"application/zip": {"schema": {"type": "string", "contentMediaType": "application/zip"}}}
    return {
        "/api/v1/exports": {
            "get": _get(
                "What you asked for", "rows", page_of("ExportListed"), "limit", "cursor",
                about="In the order of asking, up to some 15 seconds ago.",
            ),
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
                    "200": {"description": "All of it", "content": archive},
                    "206": {"description": "The part asked for", "content": archive},
                    **_problems(),
                    "409": _problem("Not made yet"),
                    "410": _problem("Expired, or failed"),
                    "416": {"description": "No such part: see Content-Range; without a body"},
                },
            },
        },
    }  # fmt: skip


def _queries() -> dict[str, Json]:
    query = {"$ref": "#/components/schemas/Query"}
    done = SCHEMAS["Query"]["examples"][0]
    waits = done | {"state": "waiting", "shown": None, "version": None, "caution": None, "figures": None}
    waits |= {"hidden": None}
    asked = {
        "schema": {"$ref": "#/components/schemas/QueryAsked"},
        "example": SCHEMAS["QueryAsked"]["examples"][0],
    }
    in_path = [{"name": "query", "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        "/api/v1/queries": {
            "get": _get(
                "What you asked", "rows", page_of("QueryListed"), "limit", "cursor",
                about="In the order of asking, up to some 15 seconds ago.",
            ),
            "post": {
                "summary": "Ask for a table that no release holds",
                "description": "A worker answers, under the rules of the wave's newest release and together"
                " with everything that is out already. Every query is written down for good. Scope: rows.",
                "requestBody": {"required": True, "content": {"application/json": asked}},
                "responses": {
                    "200": {"description": "You asked it before, beside the same version",
                            "content": {"application/json": {"schema": query, "example": done}}},
                    "202": {"description": "Asked for",
                            "headers": {"Location": {"schema": {"type": "string"}}},
                            "content": {"application/json": {"schema": query, "example": waits}}},
                    **_problems(),
                },
            },
        },
        "/api/v1/queries/{query}": {
            "parameters": in_path,
            "get": _get("How a query stands, and its figures", "rows", {**query, "examples": [done]}),
        },
    }  # fmt: skip


def _paths() -> dict[str, Json]:
    odata, floip = "/api/v1/odata", "/api/v1/flow-results/packages"
    query = ("$select", "$filter", "$top", "$skip", "$count", "$skiptoken", "$format")
    floip_kind = "application/vnd.api+json"
    of_set = [{"name": "set", "in": "path", "required": True, "schema": {"type": "string"}}]
    of_package = [{"name": "package", "in": "path", "required": True, "schema": {"type": "string"}}]
    rows = ("since", "to", "limit", "cursor")
    return {
        "/api/v1/openapi.json": {"get": {**_get("This description", "none", _DESCRIBED), "security": []}},
        "/api/v1/waves": {"get": _get("Waves", "estimates", list_of("Wave"))},
        "/api/v1/releases": {"get": _get("What is published", "estimates", list_of("Release"), "wave")},
        "/api/v1/estimates": {
            "get": _get(
                "Published figures", "estimates", page_of("Estimate"), "wave", "version", "period", "service",
                "measure", "variable", "category", "variable_2", "category_2", "limit", "cursor",
                about="After the rules for disclosure and display. Of each wave's newest version, if no"
                      " version is asked for.",
            )
        },
        "/api/v1/codebook": {
            "get": _get("What codes mean", "estimates", list_of("Code"), "instrument", "item")
        },
        "/api/v1/interviews": {
            "get": _get(
                "Interviews", "rows", page_of("Interview"), "wave", "instrument", "disposition", "counted",
                *rows, about="In the order of their last hop. One that goes on comes again.",
            )
        },
        "/api/v1/responses": {
            "get": _get(
                "Answers", "rows", page_of("Response"), "wave", "instrument", "item", "counted", *rows,
                about="In the order of answering. One that was changed comes again.",
            )
        },
        **_queries(),
        **_exports(),
        odata: {"get": _get("OData service document", "estimates", FAMILIES["ODataService"], "$format")},
        f"{odata}/": {"get": _get("The same", "estimates", FAMILIES["ODataService"], "$format")},
        f"{odata}/$metadata": {
            "get": _get(
                "OData metadata (CSDL)", "estimates", FAMILIES["ODataMetadata"], "$format",
                kind="application/xml",
            )
        },
        f"{odata}/{{set}}": {
            "parameters": of_set,
            "get": _get("Rows of a view", "estimates or rows", FAMILIES["ODataRows"], *query),
        },
        f"{odata}/{{set}}/$count": {
            "parameters": of_set,
            "get": _get("How many", "estimates or rows", FAMILIES["ODataCount"], "$filter",
                        kind="text/plain"),
        },
        floip: {"get": _get("Flow Results packages", "rows", FAMILIES["FlowPackages"], kind=floip_kind)},
        f"{floip}/{{package}}": {
            "parameters": of_package,
            "get": _get("A package's descriptor", "rows", FAMILIES["FlowPackage"], kind=floip_kind),
        },
        f"{floip}/{{package}}/responses": {
            "parameters": of_package,
            "get": _get(
                "A package's rows", "rows", FAMILIES["FlowResponses"], "filter[max-version]",
                "filter[min-version]", "filter[start-timestamp]", "filter[end-timestamp]",
                "page[size]", "page[afterCursor]", "page[beforeCursor]", kind=floip_kind,
            ),
        },
    }  # fmt: skip


def _in_their_words(paths: dict[str, Json]) -> dict[str, Json]:
    """Errors of OData and Flow Results have a form of their own."""
    for path, operations in paths.items():
        for family, (kind, schema) in _ERRORS.items():
            for status, answer in operations["get"]["responses"].items() if path.startswith(family) else ():
                if status >= "4":
                    answer["content"] = {kind: {"schema": schema, "example": schema["examples"][0]}}
    return paths


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
        "paths": _in_their_words(_paths()),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic",
                          "description": "The token is the password; any name will do."},
            },
        },
    }  # fmt: skip
