"""The office's population totals that weights are raked to: a CSV file, with source and date of each table.

    table,source,date,variables,category,total,joins
    region,"Census 2021, StatsBank, 18+",2021-06-27,region,gh_aa,3400000,
    region,"Census 2021, StatsBank, 18+",2021-06-27,region,gh_ne,320000,gh_np
    sex by residence,"Census 2021, StatsBank, 18+",2021-06-27,sex*residence,female*urban,5200000,

One row a category. `variables` are those of `domains`, joined by * for a cross; `category` has an id for
each. `joins` names the category that this one goes with when too few respondents are in it. All tables are
of one population. Totals are never constants in code: without a file a wave is published without
raking, and says so. Two versions of a file are told apart by its digest.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np

from flows.instrument import Fault, Instrument
from storage.analysis.domains import NOT_KNOWN, OfficeFileError, Variable, Wealth, variables
from storage.analysis.intervals import Ints
from storage.analysis.raking import Target

COLUMNS = ("table", "source", "date", "variables", "category", "total", "joins")
CROSS = "*"
_TOTAL = re.compile(r"[0-9]{1,15}(\.[0-9]*)?\Z")  # float() would take 1_000, -0 and inf too
_SAME_TOTAL = 1e-6  # as in raking: totals of one population may be rounded


@dataclass(frozen=True, slots=True)
class Margin:
    """One table: totals of the categories of one variable, or of a cross of several."""

    name: str
    source: str
    issued: date
    variables: tuple[str, ...]
    totals: dict[str, float]
    joins: dict[str, str]


@dataclass(frozen=True, slots=True)
class Margins:
    """The tables of one file."""

    file: str  # its name, without the folder
    digest: str  # sha256 of the file, first 16 hex digits
    tables: tuple[Margin, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(v for table in self.tables for v in table.variables))

    def targets(self, known: Sequence[Variable], of: dict[str, Ints], fewest: int = 1) -> list[Target]:
        """The tables as raking takes them; `of`: each cell's category of every variable, -1 not known."""
        by_id = {v.id: v for v in known}
        targets = []
        for table in self.tables:
            names = tuple(table.totals)
            sizes = [len(by_id[v].categories) for v in table.variables]
            place = np.full(int(np.prod(sizes)), NOT_KNOWN, dtype=np.int64)
            for n, name in enumerate(names):
                at = [
                    by_id[v].categories.index(c)
                    for v, c in zip(table.variables, name.split(CROSS), strict=True)
                ]
                place[np.ravel_multi_index(at, sizes)] = n
            codes = np.array([of[v] for v in table.variables])
            lacking = (codes == NOT_KNOWN).any(0)
            flat = np.ravel_multi_index(tuple(np.where(lacking, 0, codes)), sizes)
            totals = np.array(list(table.totals.values()))
            cells = np.where(lacking, NOT_KNOWN, place[flat])
            targets.append(Target(table.name, names, totals, cells, table.joins, fewest))
        return targets


def load_margins(path: Path, instrument: Instrument, wealth: Wealth | None = None) -> Margins:
    """The margins in `path`, for what `instrument` asks. Raises OfficeFileError listing every fault."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OfficeFileError(
            [Fault(str(path), "-", f"cannot be read: {error}; save it as CSV in UTF-8")]
        ) from None
    return Margins(
        path.name, sha256(raw).hexdigest()[:16], _read(text, str(path), variables(instrument, wealth))
    )


def _read(text: str, name: str, known: Sequence[Variable]) -> tuple[Margin, ...]:
    faults: list[Fault] = []
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    by_id = {v.id: v for v in known}
    tables: dict[str, Margin] = {}
    try:
        if tuple(rows.fieldnames or ()) not in (COLUMNS, COLUMNS[:-1]):  # the last may be left out
            raise OfficeFileError([Fault(name, "row 1", f"must be the heading: {','.join(COLUMNS)}")])
        for row in rows:
            _row(row, f"row {rows.line_num}", name, by_id, tables, faults)
    except csv.Error as error:
        faults.append(Fault(name, f"row {rows.line_num}", f"not CSV: {error}"))
    if not tables and not faults:
        faults.append(Fault(name, "-", "no table in it; give one row a category"))
    for table in tables.values():
        _whole(table, name, by_id, faults)
    _one_population(list(tables.values()), name, faults)
    if faults:
        raise OfficeFileError(faults)
    return tuple(tables.values())


def _row(
    row: dict[str | None, str | None],
    at: str,
    name: str,
    by_id: dict[str, Variable],
    tables: dict[str, Margin],
    faults: list[Fault],
) -> None:
    def fault(message: str) -> None:
        faults.append(Fault(name, at, message))

    if None in row or any(row.get(key) is None for key in COLUMNS[:-1]):
        return fault("must have a cell for each heading; quote a cell that holds a comma")
    cells = {str(key): (value or "").strip() for key, value in row.items()}
    before = len(faults)
    for key in ("table", "source"):
        if not cells[key]:
            fault(f"{key} is empty; every row says its {key}")
    try:
        issued = date.fromisoformat(cells["date"])
    except ValueError:
        issued = date.min
        fault(f"date {cells['date']!r} is none; write 2021-06-27")
    total = float("nan")
    if not _TOTAL.match(cells["total"]):
        fault(f"total {cells['total']!r} is no number of people; write digits only, without separators")
    else:
        total = float(cells["total"])
    names = tuple(v.strip() for v in cells["variables"].split(CROSS))
    category = CROSS.join(c.strip() for c in cells["category"].split(CROSS))
    for variable in names:
        if variable not in by_id:
            fault(f"variable {variable!r} is unknown; this instrument has {', '.join(by_id)}")
    if len(set(names)) != len(names):
        fault("a variable stands twice in the cross")
    if len(faults) > before:
        return None
    table = tables.setdefault(cells["table"], Margin(cells["table"], cells["source"], issued, names, {}, {}))
    if (table.source, table.issued, table.variables) != (cells["source"], issued, names):
        fault(f"source, date or variables differ from the first row of table {table.name}; make them alike")
    parts = category.split(CROSS)
    if len(parts) != len(names) or any(
        c not in by_id[v].categories for v, c in zip(names, parts, strict=False)
    ):
        known = (" " + CROSS + " ").join("|".join(by_id[v].categories) for v in names)
        fault(f"category {category!r} is unknown; known: {known}")
    elif category in table.totals:
        fault(f"category {category!r} stands twice in table {table.name}; keep one row")
    else:
        table.totals[category] = total
        if cells.get("joins"):
            table.joins[category] = CROSS.join(c.strip() for c in cells["joins"].split(CROSS))
    return None


def _whole(table: Margin, name: str, by_id: dict[str, Variable], faults: list[Fault]) -> None:
    """Every category has its total, and joins lead to other categories of the table, in no circle."""
    for parts in product(*(by_id[v].categories for v in table.variables)):
        if (missing := CROSS.join(parts)) not in table.totals:
            message = f"no row for {missing}; give its total, 0 for nobody"
            faults.append(Fault(name, f"table {table.name}", message))
    if table.totals and not any(table.totals.values()):
        faults.append(
            Fault(name, f"table {table.name}", "nobody is in it: every total is 0; give the people")
        )
    for category in table.joins:
        end, seen = category, set[str]()
        while end in table.joins and end not in seen:
            seen.add(end)
            end = table.joins[end]
        message = ""
        if end in seen:
            message = "its joins lead in a circle; mend them"
        elif not table.totals.get(end):
            message = f"joins {end!r}, which is no category of this table with a total above 0"
        if message:
            faults.append(Fault(name, f"table {table.name}, {category}", message))


def _one_population(tables: Sequence[Margin], name: str, faults: list[Fault]) -> None:
    for table in tables[1:]:
        first, total = sum(tables[0].totals.values()), sum(table.totals.values())
        if abs(total - first) > _SAME_TOTAL * first:
            message = (
                f"adds up to {total:,.0f} and table {tables[0].name} to {first:,.0f}, a difference of"
                f" {total - first:+,.0f}; take both from one population (same date, same ages)"
            )
            faults.append(Fault(name, f"table {table.name}", message))
