"""Who asked for one text with the results, and writing it to them once there is something to say.

    ResultsWanted ──> wanted ──write_texts──> written: a message in the outbox, kind `results`
                        └── STOP, withdrawal ──> forgotten

Their numbers are kept, sealed, until their message has come to an end: `outbox.WANTS_RESULTS` is what
the directory's retention asks. Two locks against writing twice: the row's own `written_at`, and the message's
natural key, which names wave and respondent, whatever the version of the release.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from flows.events import ResultsWanted as Wanted
from storage.database import Write, among, moments, reading, writing
from storage.entries import PRIORITY, Hop
from storage.models import (
    Directory,
    Interview,
    OutboundMessage,
    Response,
    ResultsWanted,
    UssdSession,
    table_of,
)
from storage.outbox import CANCELLED, DUE, HELD, RESULTS, settle_contacts
from storage.outgoing import message_id_of

_wanted, _interview, _response = table_of(ResultsWanted), table_of(Interview), table_of(Response)
_message, _directory, _session = table_of(OutboundMessage), table_of(Directory), table_of(UssdSession)
_add = Write(ResultsWanted, ("wave", "respondent", "interview", "asked_at"))
_write_messages = Write(
    OutboundMessage,
    ("id", "natural_key", "wave", "respondent", "interview", "kind", "priority", "text", "sender",
     "aggregator", "network_code", "state", "not_before", "attempts", "created_at"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody to write to: all that their text depends on."""

    respondent: str
    interview: str
    language: str | None
    region: str  # an option id of the region item; "" = not answered
    aggregator: str
    network_code: str | None


def fold_wanted(db: Connection, hops: Sequence[Hop]) -> None:
    """Keep who asked; of who has opted out or withdrawn meanwhile, nothing. The caller holds them."""
    store = moments(db)
    rows: dict[tuple[str, str], tuple[Any, ...]] = {}
    for hop in sorted(hops, key=lambda h: h.at):
        if any(isinstance(effect, Wanted) for effect in hop.effects):
            key = (hop.wave, hop.respondent)
            rows.setdefault(key, (*key, hop.interview, store(hop.at)))
    if rows:
        _add(db, list(rows.values()))
        settle_contacts(db, {respondent for _, respondent in rows})


def count_wanted(engine: Engine, wave: str) -> tuple[int, int]:
    """How many wait for a text of this wave's results, and for how many it has been written."""
    with reading(engine) as db:
        written = func.count(_wanted.c.written_at)
        everybody, done = db.execute(select(func.count(), written).where(_wanted.c.wave == wave)).one()
        return int(everybody) - int(done), int(done)


def readers(engine: Engine, wave: str, region_item: str, most: int) -> list[Reader]:
    """Those who wait and can be written to, who asked first first. `region_item`: its id, "" for none."""
    with reading(engine) as db:
        region = (
            select(_response.c.option)
            .where(
                _response.c.interview == _wanted.c.interview, _response.c.item == region_item,
                ~_response.c.retracted, _response.c.code.is_not(None),
            )
            .scalar_subquery()
        )  # fmt: skip
        network = (
            select(func.max(_session.c.network_code))
            .where(_session.c.respondent == _wanted.c.respondent)
            .scalar_subquery()
        )
        rows = db.execute(
            select(
                _wanted.c.respondent, _wanted.c.interview, _interview.c.language, region.label("region"),
                _interview.c.aggregator, network.label("network"),
            )
            .join_from(_wanted, _interview, _interview.c.id == _wanted.c.interview)
            .join(_directory, _directory.c.respondent == _wanted.c.respondent)
            .where(_wanted.c.wave == wave, _wanted.c.written_at.is_(None))
            .order_by(_wanted.c.asked_at, _wanted.c.respondent)
            .limit(most)
        )  # fmt: skip
        return [
            Reader(r.respondent, r.interview, r.language, r.region or "", r.aggregator or "", r.network)
            for r in rows
        ]


def write_texts(
    engine: Engine, wave: str, sender: str, texts: Sequence[tuple[Reader, str]], now: datetime
) -> int:
    """Write these texts to the outbox; how many. Who has opted out, withdrawn or been written to since is
    left alone."""
    with writing(engine) as db:
        store = moments(db)
        who = [reader.respondent for reader, _ in texts]
        still = set(
            db.execute(
                select(_wanted.c.respondent)
                .where(
                    _wanted.c.wave == wave,
                    _wanted.c.written_at.is_(None),
                    among(db, _wanted.c.respondent, who),
                )
                .with_for_update()
            ).scalars()
        )
        rows = []
        for reader, text in texts:
            if reader.respondent in still:
                key = f"results:{wave}:{reader.respondent}"
                rows.append(
                    (message_id_of(key), key, wave, reader.respondent, reader.interview, RESULTS,
                     PRIORITY[RESULTS], text, sender, reader.aggregator, reader.network_code, DUE, store(now),
                     0, store(now))
                )  # fmt: skip
        _write_messages(db, sorted(rows))
        db.execute(
            update(_wanted)
            .where(_wanted.c.wave == wave, among(db, _wanted.c.respondent, still))
            .values(written_at=now)
        )
        return len(rows)


def stop_texts(engine: Engine, wave: str, now: datetime) -> int:
    """Cancel those texts that have not gone yet, for good; how many."""
    with writing(engine) as db:
        cancelled = db.execute(
            update(_message)
            .where(_message.c.kind == RESULTS, _message.c.wave == wave, _message.c.state.in_((DUE, HELD)))
            .values(state=CANCELLED, failure_reason="stopped", final_at=now)
        )
        return cancelled.rowcount
