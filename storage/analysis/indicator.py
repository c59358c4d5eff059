"""The indicator's first table: per service five attribute shares, their mean, and the overall share.

As the UN metadata sheet 16.6.2 of 2021-04-19 (META), "DATA_COMP", computes it:

 1. the share of positive answers on each attribute, on the base of those who answered that item:
    not applicable, don't know and refused leave the denominator and are counted beside it;
 2. the simple mean of those shares. Answers are never pooled: 90/100 and 10/50 make 55 %, not 66.7 %;
 3. the share of positive answers on the overall item.

Positive are 3 and 2; 0 is a valid negative answer. An empty base has no share, and a mean with such a
share in it is undefined too: neither is 0. Which items belong to which service and attribute is the
instrument's data.

Not weighted, and not a probability sample: no estimate for a population. Every figure goes with its
basis: which wave, when, on which versions of the instrument, how many interviews, how many of them made up.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import TextIO

from rich.console import Console
from rich.table import Table as ConsoleTable
from rich.text import Text
from sqlalchemy import ColumnElement, Connection, Engine, and_, case, func, or_, select

from flows.instrument import Instrument, Item
from storage.analysis.counted import POSITIVE, SIMULATOR, counted
from storage.database import reading
from storage.models import Interview, Response, table_of

ALL_WAVES = "all waves"
LABEL = "Unweighted. Not a probability sample: it describes those who answered, not a population."

_interview, _response = table_of(Interview), table_of(Response)


@dataclass(frozen=True, slots=True)
class Basis:
    """What the figures are made of: counted interviews with an answer to an item of the table."""

    wave: str  # or ALL_WAVES
    first_date: date | None  # of the earliest beginning, UTC; None without an interview
    last_date: date | None  # of the latest hop
    instruments: tuple[str, ...]  # id@version
    interviews: int
    simulated: int  # of these, through the simulator


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
    basis: Basis  # of the whole table


@dataclass(frozen=True, slots=True)
class _Counts:
    positive: int = 0
    n: int = 0
    not_applicable: int = 0
    dont_know: int = 0
    refused: int = 0


def indicator(engine: Engine, instrument: Instrument, wave: str | None = None) -> list[Row]:
    """The rows of every service, in the instrument's order; of one wave, or of all pooled.

    Counts each respondent's counted interview in a wave, complete or not, on any version of the
    instrument; not one that a full quota cell turned away, whatever it had answered.
    """
    items = [i for i in instrument.items if i.role in ("attribute", "overall")]
    with reading(engine) as db:
        theirs = _answers_to(instrument, items, wave)
        counts = _count(db, items, theirs)
        basis = _basis(db, wave, theirs)
    rows: list[Row] = []
    for service in dict.fromkeys(i.service for i in items):
        mine = [_share(i, counts, basis) for i in items if i.service == service]
        attributes = [row for row in mine if row.measure == "attribute"]
        rows += attributes
        if attributes:
            rows.append(_mean(service, attributes, basis))
        rows += [row for row in mine if row.measure == "overall"]
    return rows


def _answers_to(
    instrument: Instrument, items: Sequence[Item], wave: str | None
) -> Sequence[ColumnElement[bool]]:
    """The conditions on a response and its interview that every number here rests on."""
    return (
        *counted(instrument, wave),
        ~_response.c.retracted,
        _response.c.item.in_([i.id for i in items]),
    )


def _count(
    db: Connection, items: Sequence[Item], theirs: Sequence[ColumnElement[bool]]
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
        .where(*theirs)
        .group_by(_response.c.item)
    )
    return {item: _Counts(*map(int, counted)) for item, *counted in db.execute(query)}


def _basis(db: Connection, wave: str | None, theirs: Sequence[ColumnElement[bool]]) -> Basis:
    answered = select(_response.c.interview).join(_interview, _interview.c.id == _response.c.interview)
    versions = db.execute(
        select(
            _interview.c.instrument,
            func.min(_interview.c.began_at),
            func.max(_interview.c.last_at),
            func.count(),
            func.sum(case((_interview.c.aggregator == SIMULATOR, 1), else_=0)),
        )
        .where(_interview.c.id.in_(answered.where(*theirs)))
        .group_by(_interview.c.instrument)
        .order_by(_interview.c.instrument)
    ).all()
    return Basis(
        wave=ALL_WAVES if wave is None else wave,
        first_date=min((began.date() for _, began, *_ in versions), default=None),
        last_date=max((last.date() for _, _, last, *_ in versions), default=None),
        instruments=tuple(reference for reference, *_ in versions),
        interviews=sum(n for *_, n, _ in versions),
        simulated=sum(n for *_, n in versions),
    )


def _share(item: Item, counts: dict[str, _Counts], basis: Basis) -> Row:
    c = counts.get(item.id, _Counts())
    return Row(
        item.service, item.role, item.attribute, item.number, item.id, item.label,
        c.positive / c.n if c.n else None, c.positive, c.n, c.not_applicable, c.dont_know, c.refused,
        basis,
    )  # fmt: skip


def _mean(service: str, attributes: Sequence[Row], basis: Basis) -> Row:
    shares = [row.share for row in attributes if row.share is not None]
    mean = sum(shares) / len(shares) if len(shares) == len(attributes) else None
    label = f"Mean of the {len(attributes)} shares"
    return Row(service, "mean", "", "", "", label, mean, None, None, None, None, None, basis)


def _title(basis: Basis) -> str:
    wave = basis.wave if basis.wave == ALL_WAVES else f"wave {basis.wave}"
    made_of = f"{basis.interviews} interview{'' if basis.interviews == 1 else 's'}"
    if basis.interviews:
        made_of += f", {basis.first_date} to {basis.last_date}, {', '.join(basis.instruments)}"
    return f"SDG indicator 16.6.2, {wave}\n{made_of}"


def _caption(basis: Basis) -> str:
    if not basis.simulated:
        return LABEL
    return f"{LABEL}\n{basis.simulated} of the {basis.interviews} interviews came through the simulator."


def write_table(rows: Sequence[Row], console: Console) -> None:
    """The rows as a table for reading, one section a service."""
    title, caption = (_title(rows[0].basis), _caption(rows[0].basis)) if rows else ("", LABEL)
    table = ConsoleTable(title=Text(title), caption=Text(caption), title_justify="left")
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
    """The rows as CSV; the basis and a `note` go with every figure. An undefined share is empty."""
    names = [f.name for f in fields(Row) if f.name != "basis"]
    bases = [f.name for f in fields(Basis)]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*names, *bases, "note"])
    for row in rows:
        figure = [getattr(row, name) for name in names]
        basis = [" ".join(v) if isinstance(v, tuple) else v for v in (getattr(row.basis, n) for n in bases)]
        writer.writerow([*figure, *basis, LABEL])
