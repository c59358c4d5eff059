"""The outbox: messages that are to be sent, and what became of them. Every change is one guarded UPDATE.

    due ──claim──> sending ──taken──> sent ──report──> delivered | failed
     │ ^              │ │ └─nobody knows──> unknown ──report──> sent | delivered | failed
     │ └──try again───┘ └─refused──> failed ──a later report──> delivered
     ├──no account──> held ──account──> due
     └──opted out, withdrawn, no number, too late, campaign over──> cancelled        (from held too;
                                               from sending, where nothing was sent after all)

A message is claimed before its aggregator is called, and only a due one can be claimed: so none is sent
twice. What a campaign asked for is claimed only while that runs, and while its respondent has not come
by themselves. Where the caller died after claiming, or got no answer, nobody knows whether it was sent: it is
`unknown`, never due again, and stays so unless a delivery report settles it.

The row comes first (`outgoing.py`, from the event stream; campaigns). Jobs carry its id only, and
whatever jobs a queue has lost, `sweep.due_messages` finds the row again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, exists, func, or_, select, true, update

from flows.engine import RESULTS_ONLY
from storage.database import Write, among, moments, reading, writing
from storage.models import (
    UNFINISHED,
    WITHDRAWN,
    Campaign,
    DeliveryReport,
    Directory,
    Interview,
    OutboundMessage,
    Respondent,
    ResultsWanted,
    SampleNumber,
    table_of,
)

DUE, SENDING, SENT, DELIVERED = "due", "sending", "sent", "delivered"
FAILED, UNKNOWN, CANCELLED, HELD = "failed", "unknown", "cancelled", "held"
#: Kinds that campaigns ask for.
INVITATION, REMINDER = "invitation", "reminder"
#: Kind of the one text to who asked for the results: see results_wanted.py.
RESULTS = "results"
#: States of a campaign.
DRAFT, RUNNING, PAUSED, STOPPED = "draft", "running", "paused", "stopped"

#: Ranks of delivery reports: the greatest holds, whatever the order in which they come.
NONE_CAME, NOT_KNOWN, IN_FLIGHT, UNDELIVERED, ARRIVED = -1, 0, 1, 2, 3
_RANKS = {
    **dict.fromkeys(("sent", "submitted", "buffered", "queued", "processed"), IN_FLIGHT),
    # Neither is said to be final: taken for a failure, and a later `Success` holds all the same.
    **dict.fromkeys(("failed", "rejected", "absentsubscriber", "expired"), UNDELIVERED),
    **dict.fromkeys(("success", "delivered"), ARRIVED),
}
_STATE_OF = {IN_FLIGHT: SENT, UNDELIVERED: FAILED, ARRIVED: DELIVERED}

_message, _report, _directory = table_of(OutboundMessage), table_of(DeliveryReport), table_of(Directory)
_respondent, _interview = table_of(Respondent), table_of(Interview)
_campaign, _sample = table_of(Campaign), table_of(SampleNumber)
_wanted = table_of(ResultsWanted)
know_report = Write(
    DeliveryReport, ("aggregator", "message_id", "rank", "at", "known"), {"known": "excluded.known"}
)


def rank_of(status: str) -> int:
    """How much a delivery report's status word says; words that are new to us are kept and say nothing."""
    return _RANKS.get(status.strip().lower(), NOT_KNOWN)


@dataclass(frozen=True, slots=True)
class Message:
    """One message with what decides whether it may go. The text and the sealed number stay out of logs."""

    id: str
    kind: str
    state: str
    not_before: datetime
    created_at: datetime
    attempts: int
    aggregator: str
    sender: str | None
    network_code: str | None
    wave: str | None
    respondent: str
    text: str
    sealed: str | None
    opted_out: bool
    unwanted: bool  # because of that
    withdrawn: bool  # its wave, or where it has none the latest one
    campaign: str | None  # the state of the campaign that asked for it
    needless: bool  # a campaign's message to who has come by themselves since

    def __repr__(self) -> str:
        return f"Message({self.id}, {self.kind}, {self.state})"


# ---------------------------------------------------------------- one message


#: Of a respondent's row: they asked for no more messages, and have not come back since.
OPTED_OUT = and_(
    _respondent.c.opted_out_at.is_not(None),
    or_(_respondent.c.opted_in_at.is_(None), _respondent.c.opted_in_at < _respondent.c.opted_out_at),
)
_OPTED_OUT = exists().where(_respondent.c.pseudonym == _message.c.respondent, OPTED_OUT)
#: Unwanted since then. Only what was asked for stays: the confirmation, and replies to later messages.
_UNWANTED = exists().where(
    _respondent.c.pseudonym == _message.c.respondent,
    OPTED_OUT,
    _message.c.kind != "confirmation",
    or_(_message.c.kind != "reply", _message.c.created_at <= _respondent.c.opted_out_at),
)
_ERASED = exists().where(
    _interview.c.respondent == _message.c.respondent,
    _interview.c.wave == _message.c.wave,
    _interview.c.disposition == WITHDRAWN,
)
#: The state of the campaign that asked for a message. NULL: none did.
_CAMPAIGN_STATE = (
    select(_campaign.c.state)
    .join_from(_sample, _campaign, _campaign.c.id == _sample.c.campaign)
    .where(
        _message.c.kind.in_((INVITATION, REMINDER)),
        _sample.c.wave == _message.c.wave,
        _sample.c.respondent == _message.c.respondent,
    )
    .correlate(_message)
    .scalar_subquery()
)
#: Its campaign does not run: not now, or not any more.
HALTED = func.coalesce(_CAMPAIGN_STATE, RUNNING) != RUNNING
#: An invitation to who has begun; a reminder to who has finished, or has gone on since. Who has only looked
#: at results has done none of it.
_NEEDLESS = exists().where(
    _interview.c.respondent == _message.c.respondent,
    _interview.c.wave == _message.c.wave,
    _interview.c.disposition != RESULTS_ONLY,
    or_(
        _message.c.kind == INVITATION,
        and_(
            _message.c.kind == REMINDER,
            or_(
                _interview.c.disposition.not_in(UNFINISHED) & _interview.c.counted,
                _interview.c.last_at > _message.c.created_at,
            ),
        ),
    ),
)


#: A number that the results are still to be sent to.
WANTS_RESULTS = or_(
    exists().where(_wanted.c.respondent == _directory.c.respondent, _wanted.c.written_at.is_(None)),
    exists().where(
        _message.c.respondent == _directory.c.respondent, _message.c.kind == RESULTS,
        _message.c.state.in_((DUE, SENDING)),
    ),
)  # fmt: skip


def find_message(engine: Engine, message: str) -> Message | None:
    with reading(engine) as db:
        row = db.execute(
            select(
                _message.c.id, _message.c.kind, _message.c.state, _message.c.not_before,
                _message.c.created_at, _message.c.attempts, _message.c.aggregator, _message.c.sender,
                _message.c.network_code, _message.c.wave, _message.c.respondent, _message.c.text,
                _directory.c.sealed,
                _OPTED_OUT.label("opted_out"), _UNWANTED.label("unwanted"), _ERASED.label("withdrawn"),
                _CAMPAIGN_STATE.label("campaign"), _NEEDLESS.label("needless"),
            )
            .join_from(_message, _directory, _directory.c.respondent == _message.c.respondent, isouter=True)
            .where(_message.c.id == message)
        ).first()  # fmt: skip
    if row is None:
        return None
    values = dict(row._mapping)
    flags = ("opted_out", "unwanted", "withdrawn", "needless")
    return Message(**values | {flag: bool(values[flag]) for flag in flags})


def claim(engine: Engine, message: str, now: datetime) -> bool:
    """Take a due message for sending: whoever gets True sends it, nobody else will."""
    with writing(engine) as db:
        free = (
            select(_message.c.id)
            .where(
                _message.c.id == message,
                _message.c.state == DUE,
                ~_UNWANTED,
                ~_NEEDLESS,
                ~HALTED,
            )
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        claimed = db.execute(
            update(_message)
            .where(_message.c.id == free, _message.c.state == DUE)
            .values(state=SENDING, claimed_at=now, attempts=_message.c.attempts + 1)
        )
        return claimed.rowcount == 1


def defer(engine: Engine, message: str, until: datetime) -> bool:
    """due -> due, not before `until`."""
    return _move(engine, message, (DUE,), not_before=until)


def hold(engine: Engine, message: str, reason: str) -> bool:
    """due -> held: there is no account to send it with."""
    return _move(engine, message, (DUE,), state=HELD, failure_reason=reason)


def try_again(engine: Engine, message: str, until: datetime, reason: str, *, counted: bool = True) -> bool:
    """sending -> due: it was certainly not sent. Not `counted`: the fault was the account's."""
    attempts = _message.c.attempts - (0 if counted else 1)
    return _move(
        engine, message, (SENDING,), state=DUE, not_before=until, failure_reason=reason, attempts=attempts,
        claimed_at=None,
    )  # fmt: skip


def cancel(engine: Engine, message: Message, now: datetime, reason: str) -> bool:
    """due, held -> cancelled."""
    return _end(engine, message, (DUE, HELD), CANCELLED, now, reason)


def withhold(engine: Engine, message: Message, now: datetime, reason: str) -> bool:
    """sending -> cancelled: claimed, and then not sent."""
    return _end(engine, message, (SENDING,), CANCELLED, now, reason)


def fail(engine: Engine, message: Message, now: datetime, reason: str) -> bool:
    """sending -> failed: refused, and certainly not sent."""
    return _end(engine, message, (SENDING,), FAILED, now, reason)


def lose(engine: Engine, message: Message, reason: str) -> bool:
    """sending -> unknown: it may have been sent."""
    return _end(engine, message, (SENDING,), UNKNOWN, None, reason)


def take(
    engine: Engine,
    message: Message,
    now: datetime,
    *,
    message_id: str,
    status_raw: str,
    parts: int,
    cost_amount: str | None,
    cost_currency: str | None,
) -> bool:
    """sending -> sent, and at once whatever a delivery report that was quicker has said.

    Also from unknown: who was given up as lost may come back with the answer. The report's row is the
    lock: its recorder and we take turns on it, so that neither misses the other.
    """
    with writing(engine) as db:
        store = moments(db)
        know_report(db, [(message.aggregator, message_id, NONE_CAME, store(now), True)])
        taken = db.execute(
            update(_message)
            .where(
                _message.c.id == message.id,
                _message.c.state.in_((SENDING, UNKNOWN)) | (_message.c.message_id == message_id),
            )
            .values(
                state=SENT, message_id=message_id, status_raw=status_raw, parts=parts,
                cost_amount=cost_amount, cost_currency=cost_currency, sent_at=now, failure_reason=None,
            )
        )  # fmt: skip
        apply_reports(db, [message_id])
        _tidy(db, message)
        return taken.rowcount == 1


def _move(engine: Engine, message: str, states: Sequence[str], **values: Any) -> bool:
    with writing(engine) as db:
        moved = db.execute(
            update(_message).where(_message.c.id == message, _message.c.state.in_(states)).values(**values)
        )
        return moved.rowcount == 1


def _end(
    engine: Engine, message: Message, states: Sequence[str], state: str, at: datetime | None, reason: str
) -> bool:
    with writing(engine) as db:
        moved = db.execute(
            update(_message)
            .where(_message.c.id == message.id, _message.c.state.in_(states))
            .values(state=state, final_at=at, failure_reason=reason)
        )
        _tidy(db, message)
        return moved.rowcount == 1


def _tidy(db: Connection, message: Message) -> None:
    if message.opted_out or message.withdrawn or message.kind == "confirmation":
        settle_contacts(db, [message.respondent])


# ---------------------------------------------------------------- delivery reports


def apply_reports(db: Connection, message_ids: Collection[str]) -> None:
    """Bring messages up to the reports that came for them; the caller holds the reports' rows."""
    found = db.execute(
        select(_message.c.id, _message.c.state, _report)
        .join(
            _report,
            and_(
                _report.c.aggregator == _message.c.aggregator, _report.c.message_id == _message.c.message_id
            ),
        )
        .where(among(db, _message.c.message_id, message_ids), _report.c.rank > NONE_CAME)
    ).all()
    for row in found:
        db.execute(update(_message).where(_message.c.id == row.id).values(**_reported(row)))


def _reported(row: Any) -> dict[str, Any]:
    values = {"status_raw": row.status}
    if row.network_code:
        values["network_code"] = row.network_code
    state = _STATE_OF.get(row.rank)
    if state is not None:
        values["state"] = state
        values["final_at"] = row.at if state != SENT else None
        values["failure_reason"] = (row.failure_reason or "undelivered") if state == FAILED else None
    return values


# ---------------------------------------------------------------- respondents who want no more


def settle_contacts(db: Connection, respondents: Collection[str] | None = None) -> None:
    """See to it that nothing more goes to who opted out or withdrew, and forget their numbers.

    A confirmation still goes to who opted out, and replies to what they write later; to who withdrew,
    what the withdrawal itself said (its receipt). Then the number is forgotten. None: for everybody.
    """

    def theirs(column: Any) -> Any:
        return true() if respondents is None else among(db, column, respondents)

    opted_out_at = (
        select(_respondent.c.opted_out_at)
        .where(_respondent.c.pseudonym == _message.c.respondent)
        .scalar_subquery()
    )
    db.execute(
        update(_message)
        .where(
            theirs(_message.c.respondent), _message.c.state.in_((DUE, HELD)), _UNWANTED,
        )
        .values(state=CANCELLED, failure_reason="opted_out", final_at=opted_out_at)
    )  # fmt: skip
    withdrawn_at = (
        select(func.max(_interview.c.withdrawn_at))
        .where(_interview.c.respondent == _message.c.respondent, _interview.c.wave == _message.c.wave)
        .scalar_subquery()
    )
    db.execute(
        update(_message)
        .where(
            theirs(_message.c.respondent), _message.c.state.in_((DUE, HELD)), _ERASED,
            _message.c.created_at < withdrawn_at,
        )
        .values(state=CANCELLED, failure_reason="withdrawn", final_at=withdrawn_at)
    )  # fmt: skip
    db.execute(
        update(_message)
        .where(
            theirs(_message.c.respondent), _message.c.text != "",
            _message.c.state.not_in((DUE, HELD, SENDING)), _ERASED,
        )
        .values(text="")
    )  # fmt: skip
    db.execute(
        delete(_wanted).where(
            theirs(_wanted.c.respondent),
            or_(
                exists().where(_respondent.c.pseudonym == _wanted.c.respondent, OPTED_OUT),
                exists().where(
                    _interview.c.respondent == _wanted.c.respondent, _interview.c.wave == _wanted.c.wave,
                    _interview.c.disposition == WITHDRAWN,
                ),
            ),
        )
    )  # fmt: skip
    later = _interview.alias()
    gone = or_(
        exists().where(_respondent.c.pseudonym == _directory.c.respondent, OPTED_OUT),
        exists().where(
            _interview.c.respondent == _directory.c.respondent,
            _interview.c.disposition == WITHDRAWN,
            ~exists().where(
                later.c.respondent == _interview.c.respondent,
                later.c.began_at > _interview.c.began_at,
                later.c.disposition != WITHDRAWN,
            ),
        ),
    )
    # A held message waits for an account, perhaps for ever: it keeps no number.
    waiting = exists().where(
        _message.c.respondent == _directory.c.respondent, _message.c.state.in_((DUE, SENDING))
    )
    db.execute(delete(_directory).where(theirs(_directory.c.respondent), gone, ~waiting))


def forget_respondent(db: Connection, respondent: str, now: datetime) -> None:
    """Send nothing more of what is due to them, keep neither their number nor our words to them."""
    theirs = _message.c.respondent == respondent
    db.execute(
        update(_message)
        .where(theirs, _message.c.state.in_((DUE, HELD)))
        .values(state=CANCELLED, failure_reason="withdrawn", final_at=now)
    )
    db.execute(update(_message).where(theirs, _message.c.state != SENDING).values(text=""))
    db.execute(delete(_directory).where(_directory.c.respondent == respondent))
    db.execute(delete(_wanted).where(_wanted.c.respondent == respondent))
