"""Parquet: wide.parquet and long.parquet, through DuckDB, a batch at a time.

Codes are whole numbers, days are dates, no value is null. The files carry their dictionary, as the JSON of
a table schema, in their metadata under `dial16.schema`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storage.analysis.dictionary import Variable
from storage.analysis.exports.data_package import table_schema
from storage.analysis.exports.lines import long_lines, quoted, wide_lines
from storage.analysis.exports.microdata import ExportError, Microdata, Progress

_MEMORY = "256MB"
_LINE = 1 << 20  # octets of a line at most: DuckDB has sixteen times that in memory
#: Before every text on its way to DuckDB: an empty cell is then no value, and an empty text is not.
_GIVEN = "t"


def write_parquet(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """The two files."""
    return [
        _write(data, folder / "wide.parquet", data.variables, wide_lines(data, _cell), told),
        _write(data, folder / "long.parquet", data.long, long_lines(data, _cell), told),
    ]


def _type(variable: Variable) -> str:
    kinds = {"category": "SMALLINT", "date": "DATE", "number": "BIGINT" if variable.whole else "DOUBLE"}
    return kinds.get(variable.kind, "VARCHAR")


def _write(
    data: Microdata,
    path: Path,
    variables: tuple[Variable, ...],
    lines: Iterable[tuple[str, int, int]],
    told: Progress,
) -> Path:
    import duckdb

    between = path.with_suffix(".between")
    rows = done = 0
    with between.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(quoted(v.name) for v in variables) + "\n")
        for text, interviews, count in lines:
            file.write(text)
            rows += count
            done += interviews
            told(path.name, done, data.count)
    columns = {v.name: _type(v) for v in variables}
    picked = ", ".join(
        f"substr({_named(v.name)}, {len(_GIVEN) + 1}) AS {_named(v.name)}" if _is_text(v) else _named(v.name)
        for v in variables
    )
    schema = json.dumps(table_schema(data, variables), ensure_ascii=False)
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "threads": 1,  # rows keep their order: more threads would only wait with row groups in memory
        "temp_directory": str(path.parent),
    }
    try:
        with duckdb.connect(":memory:", config=options) as db:
            # One thread reads: a line break inside quotes may not split the file.
            source = (
                f"read_csv({_text(str(between))}, header = true, auto_detect = false, delim = ',',"
                f" quote = '\"', escape = '\"', nullstr = '', parallel = false,"
                f" max_line_size = {_LINE}, columns = {_struct(columns)})"
            )
            db.execute(
                f"COPY (SELECT {picked} FROM {source}) TO {_text(str(path))}"
                f" (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{'dial16.schema': {_text(schema)}}})"
            )
            (kept,) = db.execute(f"SELECT COUNT(*) FROM read_parquet({_text(str(path))})").fetchone() or (0,)
    finally:
        between.unlink()
    if kept != rows:
        raise ExportError(f"{path.name}: {rows} rows went in and {kept} are in the file; report this")
    return path


def _is_text(variable: Variable) -> bool:
    return variable.kind in ("text", "month")


def _cell(variable: Variable, value: Any) -> str:
    return quoted(value if value is None or not _is_text(variable) else f"{_GIVEN}{value}")


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _struct(columns: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items()) + "}"
