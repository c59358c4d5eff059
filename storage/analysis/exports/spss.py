"""SPSS: wide.sav with variable labels, value labels, missing values and measures.

The reasons why an answer is missing (97 to 101) are user-missing: SPSS shows them and leaves them out of
its figures. Not asked is system-missing. The library takes a whole file in memory, so that a big export
comes in parts, wide.part1.sav, wide.part2.sav, ..: join them with ADD FILES.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from storage.analysis.dictionary import Variable
from storage.analysis.exports.limits import (
    SPSS_LABEL,
    SPSS_NAME,
    SPSS_VALUE_LABEL,
    check_names,
    missing_range,
    one_line,
)
from storage.analysis.exports.microdata import Microdata, Progress, Row, batches

PART = 100_000  # interviews of one file: some 400 MB while it is written


def write_spss(data: Microdata, folder: Path, told: Progress, part: int = PART) -> list[Path]:
    """wide.sav, or its parts. Raises ExportError for a name that SPSS does not take."""
    import pyreadstat

    check_names(data, SPSS_NAME, "SPSS")
    written = []
    for path, rows, done in parts(data, folder, "sav", part):
        pyreadstat.write_sav(
            frame(data.variables, rows),
            str(path),
            file_label=one_line(data.instrument.title, 64),
            column_labels=[one_line(v.label, SPSS_LABEL) for v in data.variables],
            variable_value_labels={
                v.name: {c.code: one_line(c.labels[data.language], SPSS_VALUE_LABEL) for c in v.codes}
                for v in data.variables
                if v.codes
            },
            missing_ranges={
                v.name: [{"lo": least[0], "hi": least[1]}]
                for v in data.variables
                if (least := missing_range(v))
            },
            variable_measure={v.name: v.measure for v in data.variables},
            variable_format={v.name: form for v in data.variables if (form := spss_format(v))},
            row_compress=True,
        )
        written.append(path)
        told(path.name, done, data.count)
    return written


def spss_format(variable: Variable) -> str:
    """The print format of a number; "" where the type alone says it."""
    if variable.kind == "category":
        return "F3.0"
    if variable.kind == "number":
        return "F8.0" if variable.whole else "F12.6"
    return ""


def parts(data: Microdata, folder: Path, ending: str, size: int) -> Iterator[tuple[Path, list[Row], int]]:
    """Path and rows of each file, and interviews written with it; one file if it holds them all."""
    if data.count <= size:
        yield folder / f"wide.{ending}", list(data.rows()), data.count
        return
    done = 0
    for number, rows in enumerate(batches(data.rows(), size), 1):
        done += len(rows)
        yield folder / f"wide.part{number}.{ending}", rows, done


def frame(variables: Iterable[Variable], rows: list[Row], recode: Any = None) -> Any:
    """The rows as a pandas DataFrame: each column of the type that the variable has.

    recode: name -> {code: what stands for it}, for the columns that hold more than numbers.
    """
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]

    recode = recode or {}
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [() for _ in variables]
    made: dict[str, Any] = {}
    for v, cells in zip(variables, columns, strict=True):
        if v.name in recode:
            known = recode[v.name]
            made[v.name] = pd.Series([known.get(c, c) for c in cells], dtype=object)
        elif v.kind == "date":
            made[v.name] = pd.Series([date.fromisoformat(c) if c else None for c in cells], dtype=object)
        elif v.kind in ("text", "month"):
            made[v.name] = pd.Series([c or "" for c in cells], dtype=object)
        else:
            made[v.name] = pd.Series(cells, dtype="Int64" if v.whole else "float64")
    return pd.DataFrame(made)
