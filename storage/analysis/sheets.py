"""The respondents of a wave out of the database, as arrays: one scan over one short text an interview.

On PostgreSQL the marks come by COPY, which is some ten times as fast as rows; anywhere else as rows.
A respondent is a counted interview (`counted`) that answered the first question of at least one service
it was given. Whoever refused, was not eligible or stopped before that is none: they weigh nothing and
are in no stratum, but in the response rates.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from flows.instrument import UNANSWERED, Instrument, Item
from storage.analysis.counted import SIMULATOR, counted
from storage.analysis.domains import Bools, Marks
from storage.marks import stored_instrument
from storage.models import Interview, table_of

_interview = table_of(Interview)
_ROWS_AT_ONCE, _OCTETS_AT_ONCE = 20_000, 1 << 21
_PSEUDONYM = 32  # hex digits

#: Called with what is being done, how much of it is, and how much there is in all.
Progress = Callable[[str, int, int], None]


class NoMarks(Exception):
    """Interviews without marks: their answers would be left out. Says what to do."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a wave's figures are made of."""

    wave: str
    period: str  # the year in which the last of them began
    first_date: date | None  # of the earliest beginning, UTC
    last_date: date | None  # of the latest hop
    instruments: tuple[str, ...]  # id@version
    interviews: int  # counted
    simulated: int  # of these, through the simulator
    respondents: int  # of these, with an answer to the first question of a service


@dataclass(frozen=True, slots=True)
class Group:
    """Interviews alike in instrument and in the probabilities with which blocks were drawn."""

    instrument: Instrument
    probabilities: Mapping[str, float]  # block -> of having been drawn
    told: str | None  # the same as the database has it
    interviews: int
    simulated: bool = True  # those that nobody dialled for are among them


@dataclass(frozen=True, slots=True)
class Sheet:
    """The respondents of one group: marks, which drawn blocks each was given, and, if asked, who each is."""

    group: Group
    marks: Marks
    given: Mapping[str, Bools]  # only blocks that some respondents were not given
    pseudonyms: tuple[str, ...]  # only if asked for


def read_groups(
    db: Connection, instrument: Instrument, wave: str, simulated: bool = True
) -> tuple[Basis, list[Group]]:
    """What there is of the wave, and its groups. simulated: see `counted`. Raises NoMarks."""
    c = _interview.c
    rows = db.execute(
        select(
            c.instrument, c.probabilities, func.count(), func.min(c.began_at), func.max(c.began_at),
            func.max(c.last_at), func.sum(case((c.aggregator == SIMULATOR, 1), else_=0)),
            func.sum(case((c.marks.is_(None), 1), else_=0)),
        )
        .where(*counted(instrument, wave, simulated))
        .group_by(c.instrument, c.probabilities)
        .order_by(c.instrument, c.probabilities)
    ).all()  # fmt: skip
    groups = []
    for reference, told, interviews, *_, unmarked in rows:
        version = stored_instrument(db, reference)
        if version is None or unmarked:
            raise NoMarks(
                f"wave {wave}: {unmarked} interviews on {reference} have no marks; run"
                " `python main.py migrate` with that version of the instrument, then try again"
            )
        groups.append(Group(version, json.loads(told or "{}"), told, interviews, simulated))
    basis = Basis(
        wave=wave,
        period=str(max((last.year for _, _, _, _, last, *_ in rows), default="")),
        first_date=min((first.date() for _, _, _, first, *_ in rows), default=None),
        last_date=max((last.date() for *_, last, _, _ in rows), default=None),
        instruments=tuple(dict.fromkeys(reference for reference, *_ in rows)),
        interviews=sum(g.interviews for g in groups),
        simulated=sum(int(made_up) for *_, made_up, _ in rows),
        respondents=0,
    )
    return basis, groups


def read_sheet(
    db: Connection, group: Group, wave: str, told: Progress | None = None, pseudonyms: bool = False
) -> Sheet:
    """The respondents of one group. `told` hears of interviews read."""
    instrument, c = group.instrument, _interview.c
    drawn = [b.id for b in instrument.blocks if b.drawn and group.probabilities.get(b.id, 1.0) < 1]
    line: ColumnElement[str] = c.marks
    for block in reversed(drawn):  # a mark before the marks: + the block was given
        given = (" " + c.blocks + " ").contains(f" {block} ", autoescape=True)
        line = case((given, "+"), else_="-").concat(line)
    if pseudonyms:
        line = c.respondent.concat(line)
    query = select(line).where(
        *counted(instrument, wave, group.simulated),
        c.instrument == instrument.reference,
        c.probabilities.is_(None) if group.told is None else c.probabilities == group.told,
    )
    ahead = _PSEUDONYM if pseudonyms else 0
    wide = ahead + len(drawn) + len(instrument.items) + 1
    raw = bytearray()
    for part in read_lines(db, query):
        raw += part
        if told is not None:
            told("reading interviews", len(raw) // wide, group.interviews)
    if len(raw) % wide:
        raise NoMarks(f"wave {wave}: marks of {instrument.reference} are not of one length; make them anew")
    table = np.frombuffer(raw, dtype=np.uint8).reshape(-1, wide)
    head, marks = table[:, : -1 - len(instrument.items)], table[:, -1 - len(instrument.items) : -1]
    marks = np.asfortranarray(marks)  # what follows goes item by item
    keep = are_respondents(instrument, marks)
    if not keep.all():
        head, marks = head[keep], np.asfortranarray(marks[keep])
    names = head[:, :ahead].tobytes().decode("ascii")
    return Sheet(
        group, marks, {block: head[:, ahead + n] == ord("+") for n, block in enumerate(drawn)},
        tuple(names[k : k + _PSEUDONYM] for k in range(0, len(names), _PSEUDONYM)),
    )  # fmt: skip


def read_lines(db: Connection, query: Select[Any]) -> Iterator[bytes]:
    """Whole lines, many at a time, of a query for one column of ASCII."""
    return _copied(db, query) if db.engine.dialect.name == "postgresql" else _fetched(db, query)


def _copied(db: Connection, query: Select[Any]) -> Iterator[bytes]:
    """Lines by COPY. Marks and pseudonyms hold nothing that its text form would escape."""
    compiled = query.compile(db.engine)
    driver: Any = db.connection.driver_connection
    part = bytearray()
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY ({compiled}) TO STDOUT", compiled.params) as copy,
    ):
        for line in copy:
            part += line
            if len(part) > _OCTETS_AT_ONCE:
                yield bytes(part)
                part.clear()
    yield bytes(part)


def _fetched(db: Connection, query: Select[Any]) -> Iterator[bytes]:
    result = db.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    for rows in result.partitions(_ROWS_AT_ONCE):
        yield "".join(f"{row[0]}\n" for row in rows).encode("ascii")


def first_questions(instrument: Instrument) -> list[Item]:
    """What every respondent given a block is asked in it, whatever they answered."""
    return [i for i in instrument.items if not i.ask_if and _of_service(instrument, i)]


def _of_service(instrument: Instrument, item: Item) -> bool:
    block = instrument.blocks[item.block]
    return any(instrument.items[i].role in ("attribute", "overall") for i in block.items)


def are_respondents(instrument: Instrument, marks: Marks) -> Bools:
    """Which rows answered the first question of a service."""
    some = np.zeros(len(marks), dtype=np.bool_)
    for item in first_questions(instrument):
        some |= marks[:, item.index] != ord(UNANSWERED)
    return some
