"""The sample of a wave: the numbers that may be invited, by pseudonym, and those that are left alone.

Whether a number is left alone is one rule, `reason_to_leave_alone`, asked when it is loaded and again
each time it is looked at (`campaigns.py`). Who is left alone keeps a row with the reason, and no number.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Exists,
    Select,
    case,
    exists,
    func,
    literal,
    null,
    select,
    update,
)

from flows.engine import QUOTA_FULL
from storage.database import Write, among, moments, reading, writing
from storage.models import (
    COMPLETE,
    WITHDRAWN,
    Campaign,
    Directory,
    Interview,
    OutboundMessage,
    Respondent,
    SampleNumber,
    table_of,
)
from storage.outbox import CANCELLED, INVITATION, OPTED_OUT
from storage.outgoing import message_id_of
from storage.respondents import lock_respondents

REFUSAL, INELIGIBLE = "refusal", "ineligible"
_BATCH = 2000  # rows a transaction: a recorder waits for it, well under a second

_campaign, _sample = table_of(Campaign), table_of(SampleNumber)
_message, _interview = table_of(OutboundMessage), table_of(Interview)
_respondent = table_of(Respondent)
_write_sample = Write(
    SampleNumber,
    ("id", "wave", "respondent", "campaign", "replicate", "source", "probability", "stratum", "network",
     "language", "loaded_at"),
)  # fmt: skip
_write_campaign = Write(Campaign, ("id", "wave", "state", "aggregator", "created_at", "state_at"))
_write_numbers = Write(
    Directory,
    ("respondent", "sealed", "key_id", "added_at"),
    ("sealed", "key_id", "added_at"),
    where="excluded.added_at > directory.added_at",
)


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a sample, as it is stored."""

    respondent: str
    sealed: str = field(repr=False)
    key_id: str
    replicate: int
    source: str
    probability: float | None
    stratum: str | None
    network: str | None
    language: str | None


def reason_to_leave_alone(invited_since: datetime | None) -> ColumnElement[str | None]:
    """Why a sample number is to be left alone, NULL if it may be written to.

    invited_since: whoever was invited to another wave after that is left alone; None: no such rule.
    """
    here = exists().where(
        _interview.c.respondent == _sample.c.respondent, _interview.c.wave == _sample.c.wave,
        _interview.c.counted,
    )  # fmt: skip
    elsewhere = exists().where(
        _interview.c.respondent == _sample.c.respondent, _interview.c.wave != _sample.c.wave
    )
    opted_out = exists().where(_respondent.c.pseudonym == _sample.c.respondent, OPTED_OUT)
    rules: list[tuple[Exists, ColumnElement[str]]] = [(opted_out, literal("opted_out"))]
    for disposition, name in (
        (WITHDRAWN, "withdrawn"), (COMPLETE, "complete"), (REFUSAL, "refused"), (INELIGIBLE, "ineligible"),
        (QUOTA_FULL, "quota_full"),
    ):  # fmt: skip
        rules.append((here.where(_interview.c.disposition == disposition), literal(name)))
    before = _interview.c.disposition.in_((REFUSAL, WITHDRAWN))
    rules.append((elsewhere.where(before), literal("refused_before")))
    if invited_since is not None:
        lately = exists().where(
            _message.c.respondent == _sample.c.respondent, _message.c.wave != _sample.c.wave,
            _message.c.kind == INVITATION, _message.c.created_at > invited_since,
            _message.c.state != CANCELLED,
        )  # fmt: skip
        rules.append((lately, literal("recent_wave")))
    return case(*rules, else_=null())


def rest_since(now: datetime, rest_days: int) -> datetime | None:
    return now - timedelta(days=rest_days) if rest_days else None


def load_numbers(
    engine: Engine,
    campaign: str,
    wave: str,
    numbers: Iterable[Number],
    now: datetime,
    *,
    rest_days: int = 0,
    draw: str | None = None,
    keep: bool = True,
    told: Callable[[int], None] = lambda done: None,
) -> Mapping[str, int]:
    """Add a sample to a campaign, batch by batch; the same one again changes nothing.

    Returns how many: `loaded`, `already` (in the wave's sample), and each reason for leaving one alone,
    whose row is kept with it and whose number is not. `keep` False: count only, nothing stays.
    """
    counts = {"loaded": 0, "already": 0}
    rest = iter(numbers)
    done = 0
    while batch := list(islice(rest, _BATCH)):
        with engine.connect() as db, db.begin() as transaction:
            if not keep:
                _write_campaign(db, [(campaign, wave, "", "", moments(db)(now), moments(db)(now))])
            for name, count in _load(db, campaign, wave, batch, now, rest_days):
                counts[name] = counts.get(name, 0) + count
            if not keep:
                transaction.rollback()
        done += len(batch)
        told(done)
    if draw is not None and keep:
        with writing(engine) as db:
            db.execute(update(_campaign).where(_campaign.c.id == campaign).values(draw=draw))
    return counts


def _load(
    db: Connection, campaign: str, wave: str, batch: Sequence[Number], now: datetime, rest_days: int
) -> Iterator[tuple[str, int]]:
    store = moments(db)
    theirs = {sample_id(wave, n.respondent): n for n in batch}
    known = set(db.execute(select(_sample.c.id).where(among(db, _sample.c.id, list(theirs)))).scalars())
    fresh = {i: n for i, n in theirs.items() if i not in known}
    yield "already", len(batch) - len(fresh)
    if not fresh:
        return
    lock_respondents(db, [(n.respondent, now) for n in fresh.values()])
    _write_sample(
        db,
        [
            (i, wave, n.respondent, campaign, n.replicate, n.source, n.probability, n.stratum,
             n.network, n.language, store(now))
            for i, n in fresh.items()
        ],
    )  # fmt: skip
    reason = reason_to_leave_alone(rest_since(now, rest_days))
    which = among(db, _sample.c.id, list(fresh))
    db.execute(update(_sample).where(which).values(excluded=reason))
    found = db.execute(select(_sample.c.id, _sample.c.excluded).where(which)).all()
    wanted = [fresh[row.id] for row in found if row.excluded is None]
    _write_numbers(db, sorted((n.respondent, n.sealed, n.key_id, store(now)) for n in wanted))
    yield "loaded", len(wanted)
    for row in found:
        if row.excluded is not None:
            yield row.excluded, 1


def drawn(wave: str | None) -> Select[tuple[str, str, str | None, float]]:
    """Wave, respondent, stratum and probability of whoever belongs to the drawn sample, of one wave or all.

    Whoever was selected with a known probability, in a replicate that was released; written to or left
    alone makes no difference (decision 22). Who is left alone has no `released_at` of their own, so the
    replicates of the others tell. Where a campaign released none, others invited its sample: it is whole.
    """
    released = (
        select(_sample.c.campaign, func.max(_sample.c.replicate).label("last"))
        .where(_sample.c.released_at.is_not(None))
        .group_by(_sample.c.campaign)
        .subquery()
    )
    query = (
        select(_sample.c.wave, _sample.c.respondent, _sample.c.stratum, _sample.c.probability)
        .join(released, released.c.campaign == _sample.c.campaign, isouter=True)
        .where(
            _sample.c.probability > 0,
            _sample.c.replicate <= func.coalesce(released.c.last, _sample.c.replicate),
        )
    )
    return query if wave is None else query.where(_sample.c.wave == wave)


def sample_id(wave: str, respondent: str) -> str:
    return message_id_of(f"sample:{wave}:{respondent}")


def release(engine: Engine, campaign: str, up_to: int, now: datetime) -> int:
    """Let replicates 1 to `up_to` be invited once the campaign runs; how many numbers more these are."""
    with writing(engine) as db:
        freed = db.execute(
            update(_sample)
            .where(
                _sample.c.campaign == campaign, _sample.c.replicate <= up_to,
                _sample.c.released_at.is_(None), _sample.c.excluded.is_(None),
            )
            .values(released_at=now, next_at=now)
        )  # fmt: skip
        return freed.rowcount


def replicates(engine: Engine, campaign: str) -> list[tuple[int, int, int, int]]:
    """Of each replicate: its number, how many numbers it has, how many are released, and left alone."""
    with reading(engine) as db:
        rows = db.execute(
            select(
                _sample.c.replicate, func.count(), func.count(_sample.c.released_at),
                func.count(_sample.c.excluded),
            )
            .where(_sample.c.campaign == campaign)
            .group_by(_sample.c.replicate)
            .order_by(_sample.c.replicate)
        )  # fmt: skip
        return [(row[0], row[1], row[2], row[3]) for row in rows]
