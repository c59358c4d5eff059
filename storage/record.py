"""Reading single interviews back out of the record, and closing those that were not resumed.

The gateway asks here when the live store has lost an interview: it folds the effects again and goes
on at the same item.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from orjson import loads
from sqlalchemy import Connection, Engine, case, exists, select, update

from flows.engine import Effect, ErasureRequested, load_effect
from flows.instrument import NONRESPONSE
from storage.database import among, reading, writing
from storage.models import (
    BREAK_OFF,
    IN_PROGRESS,
    PARTIAL,
    WITHDRAWN,
    CodebookItem,
    Event,
    Interview,
    Respondent,
    Response,
    table_of,
)
from storage.outbox import OPTED_OUT
from storage.respondents import KEPT_AT_ERASURE
from storage.standing import COLUMNS, Standing, counted_of

_respondent, _interview = table_of(Respondent), table_of(Interview)
_response, _event = table_of(Response), table_of(Event)
_item = table_of(CodebookItem)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An interview as the record knows it. Of a withdrawn one, effects tell that and no answer."""

    interview: str
    instrument: str | None  # id@version; None only if withdrawn before its beginning arrived
    wave: str
    attempt: int
    version: int  # the highest recorded
    sessions: tuple[str, ...]  # in which something was recorded, oldest first
    began_at: datetime
    last_at: datetime
    disposition: str
    receipt: str | None
    last_item: str  # on the last screen
    last_stage: str
    effects: tuple[Effect, ...]  # in order


def find_interview(engine: Engine, respondent: str, wave: str) -> Recorded | None:
    """The respondent's newest interview in the wave, None if the record has none.

    None also for one whose beginning has not arrived: it cannot be gone on with.
    Raises sqlalchemy.exc.SQLAlchemyError while the database is away.
    """
    with reading(engine) as db:
        row = db.execute(
            select(_interview)
            .where(_interview.c.respondent == respondent, _interview.c.wave == wave)
            .order_by(_interview.c.attempt.desc())
            .limit(1)
        ).first()
        if row is None or (row.instrument is None and row.disposition != WITHDRAWN):
            return None
        events = db.execute(
            select(_event.c.kind, _event.c.payload, _event.c.session)
            .where(_event.c.interview == row.id)
            .order_by(_event.c.version, _event.c.position)
        ).all()
    withdrawn = row.disposition == WITHDRAWN
    effects = [
        load_effect({"kind": e.kind, **loads(e.payload)})
        for e in events
        if not withdrawn or e.kind in KEPT_AT_ERASURE
    ]
    if withdrawn and not any(isinstance(e, ErasureRequested) for e in effects):
        effects.append(ErasureRequested(row.receipt or ""))  # erased by the operator, on request
    return Recorded(
        interview=row.id,
        instrument=row.instrument,
        wave=row.wave,
        attempt=row.attempt,
        version=row.version,
        sessions=tuple(dict.fromkeys(e.session for e in events)),
        began_at=row.began_at,
        last_at=row.last_at,
        disposition=row.disposition,
        receipt=row.receipt,
        last_item=row.last_item,
        last_stage=row.last_stage,
        effects=tuple(effects),
    )


def has_opted_out(engine: Engine, respondent: str) -> bool:
    """Whether this respondent wants no messages."""
    with reading(engine) as db:
        out = select(_respondent.c.pseudonym).where(_respondent.c.pseudonym == respondent, OPTED_OUT)
        return db.execute(out).first() is not None


def knows_before(engine: Engine, moment: datetime) -> bool:
    """Whether any interview's last hop lies before `moment`.

    A gateway whose live store began at `moment` asks once: if not, no dial needs the record.
    """
    with reading(engine) as db:
        # What was last seen before then also began before then, and that has the index: one on
        # last_at would have to follow every hop.
        found = db.execute(
            select(_interview.c.id)
            .where(_interview.c.began_at < moment, _interview.c.last_at < moment)
            .limit(1)
        ).first()
    return found is not None


def close_unfinished(
    engine: Engine, before: datetime, wave: str | None = None, *, but: Collection[str] = ()
) -> int:
    """Close interviews in progress whose last hop lies before `before`: the resume window is over. Those of
    one wave, or of all `but` some.

    `partial` if the overall item of at least one service has an answer on its scale (not 97, 98, 99),
    so that it adds to a result; else `break_off` (AAPOR's partial interview and break-off). With that,
    which of a respondent's interviews counts may change. One that goes on after all is in progress
    again, by the recorder. Returns how many were closed.
    """
    stopped = (
        _interview.c.disposition == IN_PROGRESS,
        _interview.c.last_at < before,
        _interview.c.wave.not_in(list(but)) if wave is None else _interview.c.wave == wave,
    )
    answered = exists().where(
        _response.c.interview == _interview.c.id,
        ~_response.c.retracted,
        _response.c.option.not_in(NONRESPONSE),
        _item.c.instrument == _interview.c.instrument,
        _item.c.item == _response.c.item,
        _item.c.role == "overall",
    )
    with writing(engine) as db:
        # The lock that recorders hold (see lock_respondents). Whom one holds has just gone on: next time.
        held = (
            db.execute(
                select(_respondent.c.pseudonym)
                .where(exists().where(_interview.c.respondent == _respondent.c.pseudonym, *stopped))
                .order_by(_respondent.c.pseudonym)
                .with_for_update(key_share=True, skip_locked=True)
            )
            .scalars()
            .all()
        )
        closed = db.execute(
            update(_interview)
            .where(among(db, _interview.c.respondent, held), *stopped)
            .values(disposition=case((answered, PARTIAL), else_=BREAK_OFF))
        ).rowcount
        _settle_counted(db, held)
        return closed


def _settle_counted(db: Connection, respondents: Collection[str]) -> None:
    """Set `counted` anew for those of them who have several interviews in a wave; the caller holds them."""
    several = select(_interview.c.respondent).where(
        among(db, _interview.c.respondent, respondents), _interview.c.attempt > 1
    )
    together: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    for row in db.execute(
        select(*(_interview.c[c] for c in COLUMNS)).where(_interview.c.respondent.in_(several))
    ):
        together[row.respondent, row.wave].append(Standing(*row))
    counted = {group: counted_of(standings) for group, standings in together.items()}
    for value in (False, True):
        changed = [
            s.id
            for group, standings in together.items()
            for s in standings
            if (s is counted[group]) == value != s.counted
        ]
        if changed:
            db.execute(update(_interview).where(among(db, _interview.c.id, changed)).values(counted=value))
