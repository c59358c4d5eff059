"""Quota cells in the record: how many completes each has against its target, for staff and for the live
store's counts after it has been emptied."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select

from flows.engine import QUOTA_FULL
from flows.fielding import Quota
from flows.instrument import NONRESPONSE
from flows.quotas import cell, count_name
from flows.wave import Wave
from storage.database import reading
from storage.models import COMPLETE, IN_PROGRESS, Interview, Response, table_of

_interview, _response = table_of(Interview), table_of(Response)


@dataclass(frozen=True, slots=True)
class Cell:
    """How a quota cell stands; only interviews that count (see storage/standing.py)."""

    quota: str
    cell: str  # options and bands in the order of the quota's items: "female,18-34"
    target: int | None  # None: none set, everybody is taken
    complete: int
    in_progress: int  # have answered all of the quota's items and may still complete
    turned_away: int

    @property
    def full(self) -> bool:
        return self.target is not None and self.complete >= self.target


def cells(engine: Engine, wave: Wave) -> list[Cell]:
    """Every cell with a target, and those without one that somebody is in, as the record has them."""
    found = []
    with reading(engine) as db:
        for quota in wave.quotas:
            stand = _standing(db, wave, quota, _interview.c.disposition.in_(_SHOWN))
            others = sorted({its_cell for its_cell, _ in stand} - quota.cells.keys())
            for its_cell in (*quota.cells, *others):
                counts = (stand[its_cell, disposition] for disposition in _SHOWN)
                found.append(Cell(quota.name, its_cell, quota.cells.get(its_cell), *counts))
    return found


_SHOWN = (COMPLETE, IN_PROGRESS, QUOTA_FULL)  # in the order of Cell's fields


def completes(engine: Engine, wave: Wave, before: datetime) -> dict[str, int]:
    """Completes of each cell that ended before that moment, by `count_name`."""
    ended = and_(_interview.c.disposition == COMPLETE, _interview.c.ended_at < before)
    with reading(engine) as db:
        return {
            count_name(quota.name, its_cell): n
            for quota in wave.quotas
            for (its_cell, _), n in _standing(db, wave, quota, ended).items()
        }


def _standing(
    db: Connection, wave: Wave, quota: Quota, which: ColumnElement[bool]
) -> Counter[tuple[str, str]]:
    """How many of the wave's interviews are in each cell, by cell and disposition."""
    answers = [_response.alias(f"r{n}") for n in range(len(quota.items))]
    given = [column for r in answers for column in (r.c.option, r.c.number)]
    query = select(_interview.c.disposition, func.count(), *given).select_from(_interview)
    for r, item in zip(answers, quota.items, strict=True):
        query = query.join(r, and_(r.c.interview == _interview.c.id, r.c.item == item, ~r.c.retracted))
    rows = db.execute(
        query.where(_interview.c.wave == wave.id, _interview.c.counted, which).group_by(
            _interview.c.disposition, *given
        )
    )
    counts: Counter[tuple[str, str]] = Counter()
    for disposition, n, *pairs in rows:
        values = [
            number if number is not None else None if option in NONRESPONSE else option
            for option, number in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        its_cell = cell(quota, values)
        if its_cell is not None:
            counts[its_cell, disposition] += n
    return counts
