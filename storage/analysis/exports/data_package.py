"""Frictionless Data Package v2 (https://datapackage.org): datapackage.json beside the CSV files.

Each column has its type, its title, what its values may be and, where it is coded, the label of each
code (`categories`) and of each reason for a missing answer (`missingValues` of the field).
"""

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from storage.analysis.codebook import FILE_COLUMNS
from storage.analysis.dictionary import Variable
from storage.analysis.exports.microdata import Microdata, Progress

PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"
_RESOURCE = "https://datapackage.org/profiles/2.0/dataresource.json"
_SCHEMA = "https://datapackage.org/profiles/2.0/tableschema.json"
_TYPES = {"text": "string", "category": "integer", "date": "date", "month": "yearmonth"}


def table_schema(data: Microdata, variables: Iterable[Variable]) -> dict[str, Any]:
    """The variables as a table schema."""
    fields = [_field(data, v) for v in variables]
    schema: dict[str, Any] = {"$schema": _SCHEMA, "fields": fields, "missingValues": [""]}
    if [f["name"] for f in fields] == [v.name for v in data.variables]:
        schema["primaryKey"] = ["interview"]
    return schema


def _field(data: Microdata, variable: Variable) -> dict[str, Any]:
    kind = "number" if not variable.whole else _TYPES.get(variable.kind, "integer")
    field: dict[str, Any] = {"name": variable.name, "type": kind, "title": variable.label}
    if variable.question:
        field["description"] = variable.question[data.language]
    if variable.universe:
        field["universe"] = variable.universe
    answers = [c for c in variable.codes if not c.missing]
    if answers:
        field["categories"] = [{"value": c.code, "label": c.labels[data.language]} for c in answers]
        field["categoriesOrdered"] = variable.measure == "ordinal"
    if variable.missing:
        reasons = [{"value": str(c.code), "label": c.labels[data.language]} for c in variable.missing]
        field["missingValues"] = [{"value": "", "label": ""}, *reasons]
    constraints: dict[str, Any] = {}
    if variable.least is not None:
        constraints = {"minimum": variable.least, "maximum": variable.most}
    if variable.name == "interview":
        constraints["required"] = True
    if constraints:
        field["constraints"] = constraints
    return field


def write_data_package(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """datapackage.json, for the CSV files that are in `folder` already."""
    texts = [{"name": name, "type": "string"} for name in FILE_COLUMNS]
    tables = {
        "wide.csv": ("Interviews, a column a variable", table_schema(data, data.variables)),
        "long.csv": ("Values, a row each", table_schema(data, data.long)),
        "codebook.csv": ("What each variable and code is",
                         {"$schema": _SCHEMA, "fields": texts, "missingValues": [""]}),
    }  # fmt: skip
    package: dict[str, Any] = {
        "$schema": PROFILE,
        "name": data.instrument.id.replace("_", "-"),
        "title": data.instrument.title,
        "description": f"Interviews for {data.asked.variant} use",
        "version": data.instrument.version,
        "created": data.made_at.isoformat(timespec="seconds"),
        "sources": [{"title": data.instrument.source}],
        "resources": [_resource(data, folder / name, *about) for name, about in tables.items()],
    }
    if data.about.owner:
        package["contributors"] = [{"title": data.about.owner, "roles": ["publisher"]}]
    path = folder / "datapackage.json"
    path.write_text(json.dumps(package, ensure_ascii=False, indent=1) + "\n", "utf-8")
    told(path.name, 1, 1)
    return [path]


def _resource(data: Microdata, path: Path, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": _RESOURCE, "name": path.stem, "type": "table", "title": title, "path": path.name,
        "scheme": "file", "format": "csv", "mediatype": "text/csv",
        "encoding": "utf-8-sig" if data.asked.excel else "utf-8",
        "bytes": path.stat().st_size, "hash": f"sha256:{digest(path)}",
        "dialect": {"delimiter": ",", "quoteChar": '"', "doubleQuote": True, "header": True},
        "schema": schema,
    }  # fmt: skip


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    total = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
