"""Interviews of the database as rows to keep until the files are written.

The answers come as marks; only numbers are read from the responses, since marks have no more of a number than
its group. Ids become the export's own, times become days or months, and the base weights are worked out from
the probabilities of sample and blocks.
"""

import json
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, func, null, select

from flows.instrument import Instrument
from storage.analysis.counted import SIMULATOR
from storage.analysis.dictionary import (
    PUBLIC,
    PUBLIC_DISPOSITIONS,
    Variable,
    is_final_weight,
    key_variables,
)
from storage.analysis.exports.answers import Answers, UnknownCode, codes_of, is_marked
from storage.analysis.exports.asked import Asked, ExportError, ids
from storage.models import UNFINISHED, WITHDRAWN, Interview, Response, table_of
from storage.sample import drawn

_interview, _response = table_of(Interview), table_of(Response)

Row = tuple[Any, ...]

MARKS = "its marks"  # column of the rows kept; no variable has a space in its name


def _wanted(instrument: Instrument, asked: Asked, simulated: bool) -> list[ColumnElement[bool]]:
    """Never those withdrawn: of them nothing leaves the house. simulated: those nobody dialled for, too."""
    c, ours = _interview.c, f"{instrument.id}@"
    found = [c.counted, c.disposition != WITHDRAWN, func.substr(c.instrument, 1, len(ours)) == ours]
    if asked.variant == PUBLIC:
        found.append(c.disposition.in_(PUBLIC_DISPOSITIONS))
    if asked.wave is not None:
        found.append(c.wave == asked.wave)
    if not simulated:
        found.append(c.aggregator.is_distinct_from(SIMULATOR))
    return found


def count_interviews(db: Connection, instrument: Instrument, asked: Asked, simulated: bool) -> int:
    """How many are asked for."""
    query = select(func.count()).select_from(_interview).where(*_wanted(instrument, asked, simulated))
    return int(db.execute(query).scalar_one())


def check_wave(db: Connection, wave: str | None, fielded: Collection[str] = ()) -> None:
    """Raises ExportError for a wave that is neither in the record nor `fielded`; None: every wave."""
    c = _interview.c
    if wave is None or wave in fielded:
        return
    if db.execute(select(c.id).where(c.wave == wave).limit(1)).first() is not None:
        return
    known = sorted({*fielded, *db.execute(select(c.wave).distinct()).scalars()})
    raise ExportError(
        f"wave {wave!r}: has no interview and no wave file; there are: {', '.join(known) or 'none'}"
    )


def check_instrument(db: Connection, instrument: Instrument, asked: Asked) -> None:
    """Raises ExportError if interviews asked for are on another questionnaire: they would be left out."""
    c, ours = _interview.c, f"{instrument.id}@"
    which = [c.counted, c.disposition != WITHDRAWN, func.substr(c.instrument, 1, len(ours)) != ours]
    if asked.wave is not None:
        which.append(c.wave == asked.wave)
    query = select(c.wave, c.instrument).distinct().where(*which).order_by(c.wave, c.instrument)
    found = db.execute(query).all()
    if not found:
        return
    others = ", ".join(f"{wave} ({reference})" for wave, reference in found)
    if asked.wave is None:
        raise ExportError(
            f"not every wave is on the questionnaire {instrument.id}, so that one file cannot hold them:"
            f" {others}; export one wave at a time, with --wave"
        )
    raise ExportError(
        f"the wave was held on another questionnaire than {instrument.id}: {others}; put its wave file among"
        " those in use, so that the export is made with the wave's own"
    )


#: Of an interview; after them what its respondent's draw says, and the numbers it gave.
_READ = ("interview", "respondent", "wave", "instrument", "language", "mode", "disposition", "began_at",
         "blocks", "probabilities", "marks")  # fmt: skip
_DRAWN = ("stratum", "probability")  # None: was not drawn


def select_interviews(instrument: Instrument, asked: Asked) -> Select[Any]:
    """What `Turned` takes. Marks hold all answers but numbers, of which they have the group."""
    c = _interview.c
    tables: FromClause = _interview
    columns: list[ColumnElement[Any]] = [c.id.label("interview"), *(c[name] for name in _READ[1:])]
    if asked.variant == PUBLIC:  # a weight would tell the stratum
        columns += [null().label(name) for name in _DRAWN]
    else:
        sample = drawn(asked.wave).subquery()
        mine = (sample.c.wave == c.wave) & (sample.c.respondent == c.respondent)
        tables = tables.outerjoin(sample, mine)
        columns += [sample.c[name] for name in _DRAWN]
    for item in instrument.items:
        if item.kind == "number":
            given = _response.alias()
            mine = (given.c.interview == c.id) & (given.c.item == item.id) & ~given.c.retracted
            tables = tables.outerjoin(given, mine)
            columns.append(given.c.number.label(f"number {item.index}"))
    return select(*columns).select_from(tables).where(*_wanted(instrument, asked, asked.simulated))


class Turned:
    """Turns an interview of the database into a row of the spool."""

    def __init__(
        self, db: Connection, instrument: Instrument, variables: Sequence[Variable], asked: Asked, key: bytes
    ):
        self.instrument, self.asked, self.key = instrument, asked, key
        self.at = {name: n for n, name in enumerate((*_READ, *_DRAWN))}
        self.answers = Answers(db, instrument)
        self.numbers = {item.column: len(self.at) + n for n, item in enumerate(self.answers.numbers)}
        values = [v for v in variables if not is_marked(v)]
        self.cells = [self.cell(v) for v in values]
        self.codes = [(v.item.index, codes_of(instrument, v)) for v in kept_apart(variables, asked) if v.item]
        self.columns = [*(v.name for v in values), *(v.name for v in kept_apart(variables, asked)), MARKS]

    def __call__(self, row: Row) -> list[Any]:
        marks = self.marks(row)
        return [*(cell(row) for cell in self.cells), *(c[marks[n]] for n, c in self.codes), marks]

    def marks(self, row: Row) -> str:
        at = self.at
        reference, marks = row[at["instrument"]], row[at["marks"]]
        if marks is None:
            raise ExportError(
                f"interviews on {reference} have no marks: run `python main.py migrate` with that version of"
                " the questionnaire, then try again"
            )
        unfinished = row[at["disposition"]] in UNFINISHED
        try:
            return self.answers(reference, marks, row[len(at) :], row[at["blocks"]] or "", unfinished)
        except UnknownCode as error:
            raise ExportError(
                f"{error.column}: interviews on {reference} have a code that {self.instrument.reference} does"
                " not know; export their wave alone, with that version of the instrument"
            ) from None

    def cell(self, variable: Variable) -> Callable[[Row], Any]:
        """The value of a variable that is no mark."""
        name = variable.name
        if variable.item is not None:
            return itemgetter(self.numbers[variable.item.column])
        if name in ("interview", "respondent"):
            place, made = self.at[name], ids(self.key, self.asked, name)
            return lambda row: made(row[place])
        if name in ("began_on", "began_month"):
            began, length = self.at["began_at"], 10 if name == "began_on" else 7
            return lambda row: _day(row[began])[:length]
        if is_final_weight(name):
            return lambda row: None  # put in afterwards
        if name == "weight_base":
            return self.base
        if name.startswith("weight_"):
            block, blocks, chances = name.removeprefix("weight_"), self.at["blocks"], self.at["probabilities"]

            def of_block(row: Row) -> float | None:
                weight = _block_weight(block, row[blocks], row[chances])
                return None if weight is None else weight * self.base(row)

            return of_block
        place = self.at[name]
        if not variable.codes:
            return itemgetter(place)
        known: dict[Any, int | None] = {c.value: c.code for c in variable.codes}
        known[None] = None
        return lambda row: known[row[place]]

    def base(self, row: Row) -> float:
        """1 over the probability with which the sample was drawn; 1 for whoever is in none."""
        probability = row[self.at["probability"]]
        return 1.0 if probability is None else 1 / probability


def _day(at: datetime) -> str:
    """The day, UTC."""
    return at.astimezone(UTC).date().isoformat()


@lru_cache(4096)
def _block_weight(block: str, blocks: str | None, probabilities: str | None) -> float | None:
    if block not in (blocks or "").split():
        return None
    return 1.0 / float(json.loads(probabilities or "{}").get(block, 1.0))


def kept_apart(variables: Sequence[Variable], asked: Asked) -> tuple[Variable, ...]:
    """Those whose code is kept apart too, for the rule on small cells."""
    return key_variables(tuple(variables)) if asked.variant == PUBLIC else ()
