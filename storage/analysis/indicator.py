"""The indicator's first table: per service five attribute shares, their mean, and the overall share.

As the UN metadata sheet 16.6.2 of 2021-04-19 (META), "DATA_COMP", computes it:

 1. the share of positive answers on each attribute, on the base of those who answered that item:
    not applicable, don't know and refused leave the denominator and are counted beside it;
 2. the simple mean of those shares. Answers are never pooled: 90/100 and 10/50 make 55 %, not 66.7 %;
 3. the share of positive answers on the overall item.

Positive are 3 and 2; 0 is a valid negative answer. An empty base has no share, and a mean with such a
share in it is undefined too: neither is 0. Which items belong to which service and attribute is the
instrument's data.

Not weighted, and not a probability sample: no estimate for a population.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TextIO

from rich.console import Console
from rich.table import Table as ConsoleTable
from sqlalchemy import ColumnElement, Engine, and_, case, func, or_, select

from flows.instrument import Instrument, Item
from storage.database import reading
from storage.models import WITHDRAWN, Interview, Response, table_of

POSITIVE = (3, 2)  # META, global reporting
LABEL = "Unweighted. Not a probability sample: it describes those who answered, not a population."

_interview, _response = table_of(Interview), table_of(Response)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `share` is a fraction, None where undefined; a mean has no counts of its own."""

    service: str
    measure: str  # attribute | mean | overall
    attribute: str
    question: str
    item: str
    label: str
    share: float | None
    positive: int | None
    n: int | None  # the share's base
    not_applicable: int | None
    dont_know: int | None
    refused: int | None


@dataclass(frozen=True, slots=True)
class _Counts:
    positive: int = 0
    n: int = 0
    not_applicable: int = 0
    dont_know: int = 0
    refused: int = 0


def indicator(engine: Engine, instrument: Instrument, wave: str | None = None) -> list[Row]:
    """The rows of every service, in the instrument's order; of one wave, or of all.

    Counts each respondent's counted interview, complete or not, on any version of the instrument.
    """
    items = [i for i in instrument.items if i.role in ("attribute", "overall")]
    counts = _count(engine, instrument, items, wave)
    rows: list[Row] = []
    for service in dict.fromkeys(i.service for i in items):
        attributes = [_share(i, counts) for i in items if (i.service, i.role) == (service, "attribute")]
        rows += attributes
        if attributes:
            rows.append(_mean(service, attributes))
        rows += [_share(i, counts) for i in items if (i.service, i.role) == (service, "overall")]
    return rows


def _count(
    engine: Engine, instrument: Instrument, items: Sequence[Item], wave: str | None
) -> dict[str, _Counts]:
    def times(option: str) -> ColumnElement[int]:
        return func.sum(case((_response.c.option == option, 1), else_=0))

    # An option of the item's scale is an answer. Asked by option, not by code: what 97 to 99 mean is
    # the instrument's to say.
    answered = or_(
        *(
            and_(_response.c.item == i.id, _response.c.option.in_([o.id for o in i.scale.options]))
            for i in items
            if i.scale
        )
    )
    query = (
        select(
            _response.c.item,
            func.sum(case((and_(answered, _response.c.code.in_(POSITIVE)), 1), else_=0)),
            func.sum(case((answered, 1), else_=0)),
            times("not_applicable"),
            times("dont_know"),
            times("refused"),
        )
        .join(_interview, _interview.c.id == _response.c.interview)
        .where(
            _interview.c.counted,
            _interview.c.disposition != WITHDRAWN,
            _interview.c.instrument.startswith(f"{instrument.id}@", autoescape=True),
            ~_response.c.retracted,
            _response.c.item.in_([i.id for i in items]),
        )
        .group_by(_response.c.item)
    )
    if wave is not None:
        query = query.where(_interview.c.wave == wave)
    with reading(engine) as db:
        return {item: _Counts(*map(int, counted)) for item, *counted in db.execute(query)}


def _share(item: Item, counts: dict[str, _Counts]) -> Row:
    c = counts.get(item.id, _Counts())
    return Row(
        item.service, item.role, item.attribute, item.number, item.id, item.label,
        c.positive / c.n if c.n else None, c.positive, c.n, c.not_applicable, c.dont_know, c.refused,
    )  # fmt: skip


def _mean(service: str, attributes: Sequence[Row]) -> Row:
    shares = [row.share for row in attributes if row.share is not None]
    mean = sum(shares) / len(shares) if len(shares) == len(attributes) else None
    label = f"Mean of the {len(attributes)} shares"
    return Row(service, "mean", "", "", "", label, mean, None, None, None, None, None)


def write_table(rows: Sequence[Row], console: Console) -> None:
    """The rows as a table for reading, one section a service."""
    table = ConsoleTable(title="SDG indicator 16.6.2", caption=LABEL, title_justify="left")
    table.add_column("Service")
    table.add_column("Q")
    table.add_column("Measure")
    for name in ("Share", "n", "97 n/a", "98 dk", "99 ref"):
        table.add_column(name, justify="right")
    service = ""
    for row in rows:
        if row.service != service:
            table.add_section()
        style = "bold" if row.measure != "attribute" else None
        share = "undefined" if row.share is None else f"{row.share:.1%}"
        counts = (row.n, row.not_applicable, row.dont_know, row.refused)
        table.add_row(
            row.service if row.service != service else "",
            row.question,
            row.label,
            share,
            *("" if c is None else str(c) for c in counts),
            style=style,
        )
        service = row.service
    console.print(table)


def write_csv(rows: Sequence[Row], file: TextIO) -> None:
    """The rows as CSV with a `note` that goes with every figure; an undefined share is empty."""
    names = [f.name for f in fields(Row)]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*names, "note"])
    for row in rows:
        writer.writerow([*(getattr(row, name) for name in names), LABEL])
