"""Rows for readers over HTTP, a page at a time, each page from the key on where the last one ended.

A page is asked for by the key of the row before it, not by a number of rows to skip: what is inserted
meanwhile shifts nothing, and rows with equal times are told apart by the rest of the key.

Who reads a growing table in the order of time must know that nothing older is still to come. Hops reach the
record by a stream, some late, while the database or a recorder was away. `recorded_until` asks the stream: of
everything before that moment the record has all. Pages end there.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
from sqlalchemy import ColumnElement, Connection, Row, Select, Tuple, and_, func, literal, select, tuple_

from storage.analysis.analytics import View
from storage.analysis.counted import SIMULATOR
from storage.database import among
from storage.entries import STREAM
from storage.models import (
    WITHDRAWN,
    Interview,
    ReleasedVersion,
    Response,
    table_of,
)

#: A hop is in the stream this long after its time, at the latest: the gateway gives one up after 4 s. The
#: rest is for clocks that differ between gateway and live store.
_ON_ITS_WAY = timedelta(seconds=15)

_WINDOW = 200  # interviews

_interview, _response, _release = table_of(Interview), table_of(Response), table_of(ReleasedVersion)

Key = tuple[Any, ...]


def _key(columns: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> Tuple:
    """`values` as the engine keeps the columns: a time in a bare tuple would be bound in the driver's way."""
    return tuple_(*(literal(v, c.type) for c, v in zip(columns, values, strict=True)))


def beyond(columns: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows after the one with these values, in the order of the columns."""
    return tuple_(*columns) > _key(columns, values)


def recorded_until(live: redis.Redis) -> datetime:
    """Every hop before this moment is in the record. Ask before reading. Raises redis.RedisError.

    Recorded entries leave the stream, so the oldest one there is the first that is not recorded. What was
    set aside as poison and is put back after a mend comes late: whoever keeps a copy then reads all again.
    """
    with live.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.xrange(STREAM, count=1)
        (seconds, micro), waiting = cast(Any, pipe.execute())
    moment = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micro)
    if waiting:
        oldest = int(waiting[0][0].split(b"-")[0])
        moment = min(moment, datetime.fromtimestamp(oldest / 1000, UTC))
    return moment - _ON_ITS_WAY


# ---------------------------------------------------------------- any view


def view_page(
    db: Connection,
    view: View,
    *,
    where: ColumnElement[bool] | None = None,
    after: Key | None = None,
    limit: int,
    skip: int = 0,
) -> list[Mapping[str, Any]]:
    """At most `limit` rows of the view in the order of its key: after the key given, then `skip` left out."""
    relation = view.table(db.dialect.name)
    keys = [relation.c[k] for k in view.key]
    query = select(*relation.columns).order_by(*keys)
    if where is not None:
        query = query.where(where)
    if after is not None:
        query = query.where(beyond(keys, after))
    if view.key[0] != "interview" or skip:
        return _shown(view, db.execute(query.limit(limit).offset(skip or None)).mappings())
    # A view that groups or counts would do so for every interview before it took a page. So it is asked
    # about some interviews at a time, more and more of them where few fit.
    found: list[Mapping[str, Any]] = []
    start, window = (after[0] if after else ""), max(limit, _WINDOW)
    lower = keys[0] >= start  # the interview that the last page ended in may have more rows
    while len(found) < limit:
        last = db.execute(
            select(_interview.c.id)
            .where(_interview.c.id > start)
            .order_by(_interview.c.id)
            .offset(window - 1)
            .limit(1)
        ).scalar()
        part = query.where(lower)
        if last is not None:
            part = part.where(keys[0] <= last)
        found += _shown(view, db.execute(part.limit(limit - len(found))).mappings())
        if last is None:
            break
        start, lower, window = last, keys[0] > last, window * 4
    return found


def _shown(view: View, rows: Iterable[Mapping[Any, Any]]) -> list[Mapping[str, Any]]:
    """Rows with flags as such: SQLite has 0 and 1."""
    flags = [c.name for c in view.columns if c.kind == "flag"]
    return [{**row, **{f: None if row[f] is None else bool(row[f]) for f in flags}} for row in rows]


def view_count(db: Connection, view: View, where: ColumnElement[bool] | None = None) -> int:
    """How many rows of the view fit."""
    query = select(func.count()).select_from(view.table(db.dialect.name))
    return int(db.execute(query if where is None else query.where(where)).scalar_one())


# ---------------------------------------------------------------- interviews


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which interviews or answers; None: any."""

    until: datetime  # of `recorded_until`; excluded
    wave: str | None = None
    instrument: str | None = None
    disposition: str | None = None
    item: str | None = None
    since: datetime | None = None  # excluded
    to: datetime | None = None  # included
    every: bool = False  # those that are not counted too


def _which(wanted: Wanted, at: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
    found = [_interview.c.disposition != WITHDRAWN, at < wanted.until]
    if not wanted.every:
        found += [_interview.c.counted, _interview.c.aggregator.is_distinct_from(SIMULATOR)]
    for name in ("wave", "instrument", "disposition"):
        if getattr(wanted, name) is not None:
            found.append(_interview.c[name] == getattr(wanted, name))
    if wanted.since is not None:
        found.append(at > wanted.since)
    if wanted.to is not None:
        found.append(at <= wanted.to)
    return found


_SHOWN = (
    "id", "respondent", "wave", "attempt", "counted", "instrument", "language", "mode", "aggregator",
    "disposition", "began_at", "last_at", "ended_at",
)  # fmt: skip


def interview_page(
    db: Connection, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
) -> list[Row[Any]]:
    """At most `limit` interviews in the order of their last hop, then id. One that goes on comes again."""
    query = select(*(_interview.c[n] for n in _SHOWN)).where(*_which(wanted, _interview.c.last_at))
    key = (_interview.c.last_at, _interview.c.id)
    if after is not None:
        query = query.where(beyond(key, after))
    return list(db.execute(query.order_by(*key).limit(limit)))


def answers_of(db: Connection, interviews: Collection[str]) -> dict[str, dict[str, Any]]:
    """Interview -> item -> its answer: item, option, code, number."""
    found: dict[str, dict[str, Any]] = {i: {} for i in interviews}
    rows = db.execute(
        select(_response.c.interview, _response.c.item, _response.c.option, _response.c.code,
               _response.c.number)
        .where(among(db, _response.c.interview, list(interviews)), ~_response.c.retracted)
        .order_by(_response.c.interview, _response.c.item)
    )  # fmt: skip
    for row in rows:
        found[row.interview][row.item] = row
    return found


# ---------------------------------------------------------------- answers


def response_page(
    db: Connection,
    wanted: Wanted,
    after: tuple[datetime, str, str] | None,
    limit: int,
    *,
    backwards: bool = False,
) -> list[Row[Any]]:
    """At most `limit` answers in the order of answering, then interview and item.

    backwards: those before `after`, still in that order. An answer that was changed comes at its new time.
    """
    at = _response.c.given_at
    query: Select[Any] = (
        select(
            _response.c.interview, _response.c.item, _response.c.option, _response.c.code,
            _response.c.number, at, _response.c.seconds, _response.c.tries, _response.c.mode,
            _response.c.session, _interview.c.respondent, _interview.c.wave, _interview.c.instrument,
            _interview.c.counted,
        )
        .join(_interview, _interview.c.id == _response.c.interview)
        .where(~_response.c.retracted, *_which(wanted, at))
    )  # fmt: skip
    if wanted.item is not None:
        query = query.where(_response.c.item == wanted.item)
    key = (at, _response.c.interview, _response.c.item)
    if after is not None:
        # The first condition alone is one that the index on given_at can be entered by.
        there = (at <= after[0], tuple_(*key) < _key(key, after)) if backwards else (
            at >= after[0], beyond(key, after))  # fmt: skip
        query = query.where(and_(*there))
    order = [c.desc() for c in key] if backwards else list(key)
    rows = list(db.execute(query.order_by(*order).limit(limit)))
    return rows[::-1] if backwards else rows


# ---------------------------------------------------------------- waves, releases


def release_rows(db: Connection) -> Sequence[Mapping[str, Any]]:
    """Every release, by wave and version."""
    query = select(*_release.columns).order_by(_release.c.wave, _release.c.version)
    return [dict(row) for row in db.execute(query).mappings()]


def wave_rows(db: Connection) -> Sequence[Row[Any]]:
    """Of each wave and instrument: interviews counted and not made up, first beginning, last hop."""
    c = _interview.c
    return db.execute(
        select(
            c.wave, c.instrument, func.count().label("interviews"), func.min(c.began_at).label("first"),
            func.max(c.last_at).label("last"),
        )
        .where(
            c.counted, c.disposition != WITHDRAWN, c.instrument.is_not(None),
            c.aggregator.is_distinct_from(SIMULATOR),
        )
        .group_by(c.wave, c.instrument)
        .order_by(c.wave, c.instrument)
    ).all()  # fmt: skip
