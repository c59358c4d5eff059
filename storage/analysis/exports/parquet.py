"""Parquet: wide.parquet and long.parquet, through DuckDB, a batch at a time.

Codes are whole numbers, days are dates, no value is null. The files carry their dictionary, as the JSON of
a table schema, in their metadata under `dial16.schema`.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storage.analysis.dictionary import Variable
from storage.analysis.exports.data_package import table_schema
from storage.analysis.exports.microdata import ExportError, Microdata, Progress, Row, batches

_MEMORY = "256MB"
#: Before every text on its way to DuckDB: an empty cell is then no value, and an empty text is not.
_GIVEN = "t"


def write_parquet(data: Microdata, folder: Path, told: Progress) -> list[Path]:
    """The two files."""
    return [
        _write(data, folder / "wide.parquet", data.variables, data.rows(), data.count, told),
        _write(data, folder / "long.parquet", data.long, data.long_rows(), data.long_count, told),
    ]


def _type(variable: Variable) -> str:
    kinds = {"category": "SMALLINT", "date": "DATE", "number": "BIGINT" if variable.whole else "DOUBLE"}
    return kinds.get(variable.kind, "VARCHAR")


def _write(
    data: Microdata,
    path: Path,
    variables: tuple[Variable, ...],
    rows: Iterable[Row],
    total: int,
    told: Progress,
) -> Path:
    import duckdb

    texts = [v.kind in ("text", "month") for v in variables]
    between = path.with_suffix(".between")
    done = 0
    with between.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([v.name for v in variables])  # so that a row is never empty
        for batch in batches(rows):
            writer.writerows(_marked(row, texts) for row in batch)
            done += len(batch)
            told(path.name, done, total)
    columns = {v.name: "VARCHAR" if t else _type(v) for v, t in zip(variables, texts, strict=True)}
    picked = ", ".join(
        f"substr({_named(v.name)}, {len(_GIVEN) + 1}) AS {_named(v.name)}" if text else _named(v.name)
        for v, text in zip(variables, texts, strict=True)
    )
    schema = json.dumps(table_schema(data, variables), ensure_ascii=False)
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "threads": 2,
        "temp_directory": str(path.parent),
    }
    try:
        with duckdb.connect(":memory:", config=options) as db:
            # One thread reads: a line break inside quotes may not split the file.
            source = (
                f"read_csv({_text(str(between))}, header = true, auto_detect = false, delim = ',',"
                f" quote = '\"', escape = '\"', nullstr = '', parallel = false,"
                f" max_line_size = 16777216, columns = {_struct(columns)})"
            )
            db.execute(
                f"COPY (SELECT {picked} FROM {source}) TO {_text(str(path))}"
                f" (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{'dial16.schema': {_text(schema)}}})"
            )
            (kept,) = db.execute(f"SELECT COUNT(*) FROM read_parquet({_text(str(path))})").fetchone() or (0,)
    finally:
        between.unlink()
    if kept != done:
        raise ExportError(f"{path.name}: {done} rows went in and {kept} are in the file; report this")
    return path


def _marked(row: Row, texts: list[bool]) -> list[Any]:
    return [
        cell if cell is None or not text else f"{_GIVEN}{cell}" for cell, text in zip(row, texts, strict=True)
    ]


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _struct(columns: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items()) + "}"
