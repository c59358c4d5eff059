"""The book of exports, as far as it is about those who ask over the API: who fetched which archive and when,
and a list of what one asked for."""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, func, insert, select

from storage.analysis.rows import beyond
from storage.database import reading, writing
from storage.models import ExportAudit, ExportFetch, table_of

_export, _fetch = table_of(ExportAudit), table_of(ExportFetch)
_SHOWN = ("id", "asked_at", "variant", "formats", "wave", "state", "rows", "expires_at", "error")


def note_fetch(engine: Engine, export: str, by: str, *, part: bool, now: datetime | None = None) -> None:
    """Write down that `by` is about to be sent the archive; part: some of it, by a Range."""
    row = {"id": uuid.uuid4().hex, "export": export, "fetched_by": by, "part": part}
    with writing(engine) as db:
        db.execute(insert(_fetch).values(**row, fetched_at=now or datetime.now(UTC)))


def asked_page(
    engine: Engine, by: str, until: datetime, after: tuple[datetime, str] | None, limit: int
) -> list[Row[Any]]:
    """At most `limit` of this asker's exports, from before `until`, in the order of asking, after the key
    given (moment, id); with how often each was fetched (`fetches`), and when last (`fetched_at`)."""
    key = (_export.c.asked_at, _export.c.id)
    theirs = _fetch.c.export == _export.c.id
    fetches = select(func.count()).where(theirs).scalar_subquery().label("fetches")
    last = select(func.max(_fetch.c.fetched_at)).where(theirs).scalar_subquery().label("fetched_at")
    query = select(*(_export.c[n] for n in _SHOWN), fetches, last).where(
        _export.c.asked_by == by, _export.c.asked_at < until
    )
    if after is not None:
        query = query.where(beyond(key, after))
    with reading(engine) as db:
        return list(db.execute(query.order_by(*key).limit(limit)))
