"""Campaigns: who may be invited into a wave, what has been written to them, and where they stand.

    draft ──start──> running <──> paused        and from each of them ──> stopped, for good

A sample number is looked at when its `next_at` has come: from its release until nothing is to be written
to it any more. Two locks against writing twice: a message's natural key says wave, respondent, kind and
which one it is, and is unique (`outbound_message`); and messages are written under the campaign's row, so
that a pause or stop that has returned has nobody behind it still writing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    bindparam,
    exists,
    func,
    insert,
    select,
    update,
)

from storage.database import Write, among, moments, reading, writing
from storage.entries import PRIORITY
from storage.models import Campaign, Directory, Interview, OutboundMessage, SampleNumber, table_of
from storage.outbox import CANCELLED, DRAFT, DUE, HELD, INVITATION, PAUSED, REMINDER, RUNNING, STOPPED
from storage.outgoing import message_id_of
from storage.sample import reason_to_leave_alone, rest_since

KINDS = (INVITATION, REMINDER)

_campaign, _sample = table_of(Campaign), table_of(SampleNumber)
_message, _interview = table_of(OutboundMessage), table_of(Interview)
_directory = table_of(Directory)
_write_messages = Write(
    OutboundMessage,
    ("id", "natural_key", "wave", "respondent", "kind", "priority", "text", "sender", "aggregator",
     "network_code", "state", "not_before", "attempts", "created_at"),
)  # fmt: skip

#: From which states a campaign comes into each.
_BEFORE = {RUNNING: (DRAFT, PAUSED), PAUSED: (RUNNING,), STOPPED: (DRAFT, RUNNING, PAUSED)}


class CampaignError(Exception):
    """A campaign cannot do what was asked. Says what to do instead."""


@dataclass(frozen=True, slots=True)
class Invites:
    """A campaign as it stands."""

    id: str
    wave: str
    state: str
    aggregator: str
    sender: str | None
    draw: str | None
    created_at: datetime
    state_at: datetime


@dataclass(frozen=True, slots=True)
class Contacted:
    """A message that a campaign has asked for."""

    kind: str
    state: str
    at: datetime  # sent, or else asked for


@dataclass(frozen=True, slots=True)
class Candidate:
    """A number to look at: all that decides whether to write to it now."""

    id: str
    respondent: str
    reason: str | None  # to leave it alone
    has_number: bool
    network: str | None
    languages: tuple[str, ...]  # last chosen, then the sample's: whichever the wave offers
    interview: str | None  # the one in this wave that counts
    disposition: str | None  # of that
    last_at: datetime | None
    contacts: tuple[Contacted, ...]  # oldest first


@dataclass(frozen=True, slots=True)
class Look:
    """What became of looking at a number: a message, or not, and when to look again (None: never)."""

    id: str
    respondent: str
    next_at: datetime | None
    excluded: str | None = None
    kind: str = ""  # of a message
    ordinal: int = 0  # 1, 2, .. of its kind
    text: str = ""
    network: str | None = None


# ---------------------------------------------------------------- a campaign


def create_campaign(
    engine: Engine, campaign: str, wave: str, aggregator: str, sender: str, now: datetime
) -> Invites:
    """The campaign of that name, made if there is none. Raises CampaignError if it is another wave's."""
    with writing(engine) as db:
        found = _find(db, campaign)
        if found is None:
            values = {
                "id": campaign, "wave": wave, "state": DRAFT, "aggregator": aggregator, "sender": sender,
                "created_at": now, "state_at": now,
            }  # fmt: skip
            db.execute(insert(_campaign).values(**values))
            found = _find(db, campaign)
        assert found is not None
    if found.wave != wave:
        raise CampaignError(f"campaign {campaign} is of wave {found.wave}; choose another name")
    if found.state == STOPPED:
        raise CampaignError(f"campaign {campaign} was stopped, which is for good; choose another name")
    return found


def find_campaign(engine: Engine, campaign: str) -> Invites:
    """Raises CampaignError if there is none of that name."""
    with reading(engine) as db:
        found = _find(db, campaign)
        names = db.execute(select(_campaign.c.id).order_by(_campaign.c.created_at)).scalars().all()
    if found is None:
        there = f"there are {', '.join(names)}" if names else "load a sample first: `main.py campaign load`"
        raise CampaignError(f"there is no campaign {campaign}; {there}")
    return found


def running_campaigns(engine: Engine) -> list[Invites]:
    with reading(engine) as db:
        rows = db.execute(select(_campaign).where(_campaign.c.state == RUNNING).order_by(_campaign.c.id))
        return [Invites(**row._mapping) for row in rows]


def _find(db: Connection, campaign: str) -> Invites | None:
    row = db.execute(select(_campaign).where(_campaign.c.id == campaign)).first()
    return None if row is None else Invites(**row._mapping)


def set_state(engine: Engine, campaign: str, state: str, now: datetime) -> int:
    """Start, pause, resume or stop. Holds at once: no message is claimed after this has returned.

    Stopping cancels what is due; how many messages. Raises CampaignError where there is no such change.
    """
    found = find_campaign(engine, campaign)
    with writing(engine) as db:
        changed = db.execute(
            update(_campaign)
            .where(_campaign.c.id == campaign, _campaign.c.state.in_(_BEFORE[state]))
            .values(state=state, state_at=now)
        )
        if not changed.rowcount:
            raise CampaignError(f"campaign {campaign} is {found.state}; it cannot become {state}")
        if state != STOPPED:
            return 0
        cancelled = db.execute(
            update(_message)
            .where(of_campaign(campaign), _message.c.state.in_((DUE, HELD)))
            .values(state=CANCELLED, failure_reason="campaign_stopped", final_at=now)
        )
        db.execute(
            update(_sample)
            .where(_sample.c.campaign == campaign, _sample.c.next_at.is_not(None))
            .values(next_at=None)
        )
        return cancelled.rowcount


def of_campaign(campaign: str) -> ColumnElement[bool]:
    """Messages that this campaign asked for."""
    return and_(
        _message.c.kind.in_(KINDS),
        exists().where(
            _sample.c.wave == _message.c.wave,
            _sample.c.respondent == _message.c.respondent,
            _sample.c.campaign == campaign,
        ),
    )


# ---------------------------------------------------------------- looking, and writing


def waiting(engine: Engine, campaign: str) -> int:
    """Messages of the campaign that have not gone yet."""
    with reading(engine) as db:
        due = select(func.count()).select_from(_message).where(_message.c.state == DUE, of_campaign(campaign))
        return int(db.execute(due).scalar_one())


def candidates(
    engine: Engine, campaign: Invites, now: datetime, most: int, rest_days: int = 0
) -> list[Candidate]:
    """Numbers whose time to be looked at has come, the longest waiting first."""
    with reading(engine) as db:
        rows = db.execute(
            select(
                _sample.c.id, _sample.c.respondent, _sample.c.network, _sample.c.language,
                reason_to_leave_alone(rest_since(now, rest_days)).label("reason"),
                _directory.c.respondent.label("number"),
            )
            .join_from(_sample, _directory, _directory.c.respondent == _sample.c.respondent, isouter=True)
            .where(_sample.c.campaign == campaign.id, _sample.c.next_at <= now)
            .order_by(_sample.c.next_at)
            .limit(most)
        ).all()  # fmt: skip
        who = [row.respondent for row in rows]
        held: dict[str, Any] = {}
        spoken: dict[str, str] = {}
        found = db.execute(
            select(
                _interview.c.respondent, _interview.c.wave, _interview.c.id, _interview.c.counted,
                _interview.c.disposition, _interview.c.last_at, _interview.c.language,
            )
            .where(among(db, _interview.c.respondent, who))
            .order_by(_interview.c.last_at)
        )  # fmt: skip
        for row in found:
            if row.language:
                spoken[row.respondent] = row.language
            if row.wave == campaign.wave and row.counted:
                held[row.respondent] = row
        contacts: dict[str, list[Contacted]] = {}
        messages = db.execute(
            select(
                _message.c.respondent, _message.c.kind, _message.c.state,
                func.coalesce(_message.c.sent_at, _message.c.created_at, type_=_message.c.sent_at.type),
            )
            .where(
                among(db, _message.c.respondent, who), _message.c.wave == campaign.wave,
                _message.c.kind.in_(KINDS),
            )
            .order_by(_message.c.created_at)
        )  # fmt: skip
        for respondent, kind, state, at in messages:
            contacts.setdefault(respondent, []).append(Contacted(kind, state, at))
    out = []
    for row in rows:
        interview = held.get(row.respondent)
        languages = tuple(x for x in (spoken.get(row.respondent), row.language) if x)
        out.append(
            Candidate(
                row.id, row.respondent, row.reason, row.number is not None, row.network, languages,
                interview.id if interview else None, interview.disposition if interview else None,
                interview.last_at if interview else None, tuple(contacts.get(row.respondent, ())),
            )
        )  # fmt: skip
    return out


def write_looks(engine: Engine, campaign: Invites, looks: Sequence[Look], now: datetime) -> int:
    """Write down what became of looking, messages first; how many. 0 if the campaign runs no more."""
    if not looks:
        return 0
    with writing(engine) as db:
        state = db.execute(
            select(_campaign.c.state).where(_campaign.c.id == campaign.id).with_for_update()
        ).scalar()
        if state != RUNNING:
            return 0
        store = moments(db)
        rows = []
        for look in looks:
            if look.kind:
                key = f"campaign:{campaign.wave}:{look.respondent}:{look.kind}:{look.ordinal}"
                rows.append(
                    (message_id_of(key), key, campaign.wave, look.respondent, look.kind, PRIORITY[look.kind],
                     look.text, campaign.sender, campaign.aggregator, look.network, DUE, store(now), 0,
                     store(now))
                )  # fmt: skip
        _write_messages(db, sorted(rows))
        db.execute(
            update(_sample)
            .where(_sample.c.id == bindparam("which"))
            .values(next_at=bindparam("then"), excluded=bindparam("why")),
            [{"which": look.id, "then": look.next_at, "why": look.excluded} for look in looks],
        )
        return len(rows)
